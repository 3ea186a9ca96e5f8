//! Sizes on the command line. They are read in the units that sizes are shown in.

/// A number of bytes. K, M, G and T behind it stand for powers of 1000, as disks are sold; Ki, Mi, Gi and Ti
/// for powers of 1024.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let unit: Option<u64> = match unit.to_ascii_lowercase().as_str() {
        "" => Some(1),
        "k" => Some(1_000),
        "m" => Some(1_000_000),
        "g" => Some(1_000_000_000),
        "t" => Some(1_000_000_000_000),
        "ki" => Some(1 << 10),
        "mi" => Some(1 << 20),
        "gi" => Some(1 << 30),
        "ti" => Some(1 << 40),
        _ => None,
    };
    let size = digits.parse::<u64>().ok().zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
    size.ok_or_else(|| {
        "expected a number of bytes, optionally with K, M, G or T (powers of 1000) or Ki, Mi, Gi or Ti (powers \
         of 1024), e.g. 4G"
            .to_owned()
    })
}

/// A size that is not zero.
pub(super) fn memory_size(text: &str) -> Result<u64, String> {
    match size(text)? {
        0 => Err("must be more than 0".to_owned()),
        size => Ok(size),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::bytes;

    #[test]
    fn sizes_are_read_as_they_are_shown() {
        assert_eq!(
            ["0", "123", "800m", "4G", "4Gi", "2ki"].map(size),
            [0, 123, 800_000_000, 4_000_000_000, 4 << 30, 2048].map(Ok)
        );
        assert_eq!(
            ["7K", "20M", "200G", "3T"].map(|text| bytes(size(text).unwrap())),
            ["7.00 kB", "20.0 MB", "200 GB", "3.00 TB"]
        );
        for bad in ["", "G", "-1", "4 G", "1.5G", "99999999999T", "4€", "4GB", "4i"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        assert_eq!((memory_size("1"), memory_size("0").is_err()), (Ok(1), true));
    }
}

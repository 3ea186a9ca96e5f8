//! The instruction sets of this CPU. Encoders have other code for each, and not all of it makes the same
//! bytes (libaom's for AVX2 does not): for one that nobody has tried they are part of its identity.

/// Detects each of these features, and names those that are there.
macro_rules! detected {
    ($detect:ident: $($name:tt),*) => {
        [$(($name, std::arch::$detect!($name))),*]
            .into_iter()
            .filter(|&(_, is_there)| is_there)
            .map(|(name, _)| name)
            .collect::<Vec<&str>>()
    };
}

/// The architecture and what goes beyond its least, e.g. `x86_64 sse4.1 avx avx2`.
pub fn instruction_sets() -> String {
    #[cfg(target_arch = "x86_64")]
    let sets =
        detected!(is_x86_feature_detected: "sse3", "ssse3", "sse4.1", "sse4.2", "avx", "avx2", "avx512bw");
    #[cfg(target_arch = "aarch64")]
    let sets = detected!(is_aarch64_feature_detected: "crc", "dotprod", "i8mm", "sve", "sve2");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let sets: Vec<&str> = Vec::new();
    std::iter::once(std::env::consts::ARCH).chain(sets).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_architecture_comes_first_and_always() {
        let sets = instruction_sets();
        assert!(sets.starts_with(std::env::consts::ARCH), "{sets}");
        assert_eq!(sets, instruction_sets());
    }
}

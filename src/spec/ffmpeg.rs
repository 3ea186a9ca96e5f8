//! Reads the tables of FFmpeg's encoders, `[encoder.libaom-av1]` and the like: their keys are the encoder's
//! own options. Only FFmpeg knows which options an encoder has; here those are refused that rivet sets.

use toml::de::DeValue;

use super::catalog::{own_name, set_by_rivet};
use super::entry::kind;
use super::fault::OptionCheck;
use super::fields::FreeKey;
use super::ladder::FfmpegOptions;
use super::problems::{Diagnostic, Problems, Read, Reported, quoted};

/// What FFmpeg's names of AV1 encoders begin with.
const PREFIXES: [&str; 2] = ["lib", "av1_"];
/// What all of them contain, and no name of another codec's encoder does.
const HELD: &str = "av1";
/// Bytes of the longest name of an encoder or an option.
const MAX_NAME: usize = 64;

/// Whether this may be FFmpeg's name of an AV1 encoder, whichever FFmpeg is here.
pub(super) fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    let rest = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix));
    let is_well_formed = rest.is_some_and(|rest| !rest.is_empty() && rest.chars().all(fits));
    is_well_formed && name.contains(HELD) && name.len() <= MAX_NAME
}

/// The table of one encoder, with the encoder's name.
pub(super) fn table(
    table: &FreeKey<'_>,
    check: OptionCheck<'_>,
    problems: &mut Problems,
) -> Read<(String, FfmpegOptions)> {
    if let Some(own) = own_name(table.name) {
        return Err(problems.report(
            Diagnostic::new(format!("encoder `{}` is named `{own}` in a spec", table.name))
                .at(table.span.clone(), "FFmpeg's name")
                .help(format!("write `[encoder.{own}]`")),
        ));
    }
    let DeValue::Table(entries) = table.value else {
        return Err(problems.report(
            Diagnostic::new(format!("`{}` in `[encoder]` must be a table", table.name))
                .at(table.value_span.clone(), format!("found {}", kind(table.value)))
                .help(format!("for example: `[encoder.{}]`", table.name)),
        ));
    };
    let options: Vec<Read<(String, String)>> = entries
        .iter()
        .map(|(key, value)| {
            let option = FreeKey {
                name: key.get_ref(),
                span: key.span(),
                value: value.get_ref(),
                value_span: value.span(),
            };
            Ok((name(table.name, &option, problems)?, text(table.name, &option, problems)?))
        })
        .collect();
    let readable: FfmpegOptions = options.iter().flatten().cloned().collect();
    let refused = check(table.name, &readable).into_iter().filter_map(|fault| {
        let (key, _) = entries.get_key_value(fault.keys.last()?.as_str())?;
        let problem = Diagnostic::new(fault.headline).at(key.span(), fault.label).help(fault.help);
        Some(problems.report(problem))
    });
    match refused.collect::<Vec<Reported>>().first() {
        Some(reported) => Err(*reported),
        None => Ok((table.name.to_owned(), options.into_iter().collect::<Read<_>>()?)),
    }
}

/// An option as a headline names it: "`cpu-used` in `[encoder.libaom-av1]`".
fn place(encoder: &str, option: &FreeKey<'_>) -> String {
    format!("{} in `[encoder.{encoder}]`", quoted(option.name))
}

fn name(encoder: &str, option: &FreeKey<'_>, problems: &mut Problems) -> Read<String> {
    let place = place(encoder, option);
    if let Some(hint) = set_by_rivet(option.name) {
        return Err(problems.report(
            Diagnostic::new(format!("{place} is set by rivet"))
                .at(option.span.clone(), "not an option here")
                .help(hint),
        ));
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if option.name.is_empty() || option.name.len() > MAX_NAME || !option.name.chars().all(fits) {
        return Err(problems.report(
            Diagnostic::new(format!("{place} is not a valid option name"))
                .at(option.span.clone(), "expected letters, digits, `-`, `_` and `.`")
                .help(format!("`ffmpeg -h encoder={encoder}` lists its options")),
        ));
    }
    Ok(option.name.to_owned())
}

/// A value as FFmpeg reads it.
fn text(encoder: &str, option: &FreeKey<'_>, problems: &mut Problems) -> Read<String> {
    let wrong = |problems: &mut Problems, must: &str, label: String, help: String| {
        let problem = Diagnostic::new(format!("{} must be {must}", place(encoder, option)));
        Err(problems.report(problem.at(option.value_span.clone(), label).help(help)))
    };
    match option.value {
        DeValue::String(text) if text.contains('\0') => {
            let help = "remove it".to_owned();
            wrong(problems, "text without a null character", "contains a null character".to_owned(), help)
        }
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Boolean(value) => Ok(u8::from(*value).to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(value) => Ok(value.to_string()),
            Err(_) => wrong(
                problems,
                "a 64-bit integer",
                "out of range".to_owned(),
                format!("`ffmpeg -h encoder={encoder}` tells what it may be"),
            ),
        },
        value => wrong(
            problems,
            "a string, an integer or a boolean",
            format!("found {}", kind(value)),
            "write it in quotes, as on FFmpeg's command line".to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use crate::spec::testing::{HEAD, has, invalid, ladder};

    fn spec(table: &str) -> String {
        format!(
            "{HEAD}[encoder.libaom-av1]\n{table}\n\
             [[rung]]\nname = '720p'\nheight = 720\nencoder = ['libaom-av1', 'rav1e']\n\
             [[rung]]\nname = '360p'\nheight = 360\n"
        )
    }

    fn refused(line: &str, parts: &[&str]) {
        has(&invalid(&spec(line)), parts);
    }

    #[test]
    fn options_are_read_as_ffmpeg_reads_them() {
        let ladder = ladder(&spec("tune = 'ssim'\nenable-cdef = false\ncpu-used = 0x8\naq-mode = -1"));
        let options = &ladder.rungs[0].ffmpeg["libaom-av1"];
        let read: Vec<(&str, &str)> = options.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(read, [("aq-mode", "-1"), ("cpu-used", "8"), ("enable-cdef", "0"), ("tune", "ssim")]);
        assert!(ladder.rungs[1].ffmpeg.is_empty(), "it does not use that encoder");
    }

    #[test]
    fn the_order_of_options_says_nothing() {
        let one = ladder(&spec("tune = 'ssim'\ncpu-used = 8")).rungs;
        assert_eq!(one, ladder(&spec("cpu-used = 8\ntune = 'ssim'")).rungs);
        assert_ne!(one, ladder(&spec("cpu-used = 7\ntune = 'ssim'")).rungs);
    }

    #[test]
    fn what_rivet_sets_is_refused_where_it_stands() {
        for (line, why) in [
            ("crf = 20", "`crf` in `[video]` or `[[rung]]` sets it on AV1's scale"),
            ("b = '2M'", "the bit rate follows from `crf`"),
            ("g = 48", "a chunk is one closed GOP"),
            ("keyint_min = 48", "one key frame"),
            ("flags = '+psnr'", "one closed GOP"),
            ("row-mt = true", "`--jobs` sets how many"),
            ("level = 8", "it follows from the rung and the source"),
            ("aom-params = 'kf-max-dist=3'", "give each option by its own name"),
        ] {
            let option = line.split(' ').next().unwrap_or_default();
            let headline = format!("error: `{option}` in `[encoder.libaom-av1]` is set by rivet");
            refused(line, &[&headline, "ladder.toml:5:1", "not an option here", why]);
        }
        let both = invalid(&spec("crf = 20\nb = 7"));
        assert_eq!(both.matches("is set by rivet").count(), 2, "{both}");
    }

    #[test]
    fn values_are_strings_whole_numbers_or_booleans() {
        refused(
            "cpu-used = 8.5",
            &[
                "`cpu-used` in `[encoder.libaom-av1]` must be a string, an integer or a boolean",
                "found a float",
                "write it in quotes",
            ],
        );
        refused("cpu-used = [8]", &["found an array"]);
        refused("cpu-used.x = 8", &["found a table"]);
        refused("cpu-used = 99999999999999999999", &["must be a 64-bit integer"]);
        refused("tune = \"a\\u0000\"", &["contains a null character"]);
        refused("\"ä\" = 1", &["`ä` in `[encoder.libaom-av1]` is not a valid option name"]);
        refused("\"\" = 1", &["is not a valid option name"]);
        has(
            &invalid(&format!("encoder.libaom-av1 = 3\n{HEAD}")),
            &["`libaom-av1` in `[encoder]` must be a table", "found an integer"],
        );
    }
}

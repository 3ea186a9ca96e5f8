//! Reads every `[[audio]]`. Which track of the source is used, and how its channels are mixed, is decided
//! where the source is known.

use std::ops::RangeInclusive;

use toml::de::DeValue;

use super::entry::Entry;
use super::fields::Fields;
use super::keys;
use super::ladder::{AudioCodec, AudioRendition};
use super::names::Names;
use super::problems::{Problems, Read, Reported};
use super::units::{BitsPerSecond, UnitError};

/// What Opus can do (RFC 6716 2.1.1).
const BITRATE: RangeInclusive<BitsPerSecond> = BitsPerSecond(6_000)..=BitsPerSecond(510_000);
const DEFAULT_BITRATE: BitsPerSecond = BitsPerSecond(128_000);

/// Reads all renditions. A ladder without any has no audio.
pub(super) fn read<'t>(
    root: &mut Fields<'t>,
    names: &mut Names<'t>,
    problems: &mut Problems,
) -> Read<Vec<AudioRendition>> {
    let renditions: Vec<Read<AudioRendition>> = root
        .tables("audio", &keys::AUDIO, problems)?
        .into_iter()
        .map(|fields| rendition(fields, names, problems))
        .collect();
    renditions.into_iter().collect()
}

/// `[[audio]]`
fn rendition<'t>(
    mut fields: Fields<'t>,
    names: &mut Names<'t>,
    problems: &mut Problems,
) -> Read<AudioRendition> {
    let name = match fields.required("name", problems) {
        Ok(entry) => names.folder_name(&entry, problems),
        Err(reported) => Err(reported),
    };
    let codec = fields.optional("codec", |entry| entry.choice(problems));
    let bitrate = fields.optional("bitrate", |entry| bitrate(&entry, problems));
    let channels = fields.optional("channels", |entry| entry.integer(1..=2, problems));
    let language = fields.optional("language", |entry| language(&entry, problems));
    let track = fields.optional("track", |entry| entry.integer(0..=u32::MAX, problems));
    fields.finish(problems);
    Ok(AudioRendition {
        name: name?,
        codec: codec?.unwrap_or(AudioCodec::Opus),
        bitrate: bitrate?.unwrap_or(DEFAULT_BITRATE),
        channels: channels?,
        language: language?,
        track: track?,
    })
}

fn bitrate(entry: &Entry<'_>, problems: &mut Problems) -> Read<BitsPerSecond> {
    let text = match entry.value {
        DeValue::String(text) => text,
        _ => return Err(without_unit(entry, problems)),
    };
    let rate: BitsPerSecond = match text.parse() {
        Ok(rate) => rate,
        Err(error) => return Err(not_a_bitrate(entry, &error, problems)),
    };
    if !BITRATE.contains(&rate) {
        let label = match rate < *BITRATE.start() {
            true => format!("{rate} bit/s is too low"),
            false => format!("{rate} bit/s is too high"),
        };
        let headline = format!("must be from {} to {}", BITRATE.start(), BITRATE.end());
        return Err(problems.report(entry.problem(&headline, label).help(entry.example())));
    }
    Ok(rate)
}

/// A bare number may be meant in bits or in kilobits; the hint takes the one that Opus can do.
fn without_unit(entry: &Entry<'_>, problems: &mut Problems) -> Reported {
    let number: u64 = match entry.value {
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().parse().unwrap_or(0),
        DeValue::Integer(_) | DeValue::Float(_) => 0,
        _ => return entry.not("a bit rate in quotes", problems),
    };
    let meant = [number, number.saturating_mul(1_000)]
        .map(BitsPerSecond)
        .into_iter()
        .find(|rate| BITRATE.contains(rate));
    let help = match meant {
        Some(rate) => format!("write `bitrate = \"{rate}\"`"),
        None => entry.example(),
    };
    problems.report(entry.problem("must be a bit rate in quotes with a unit", "missing unit").help(help))
}

fn not_a_bitrate(entry: &Entry<'_>, error: &UnitError, problems: &mut Problems) -> Reported {
    problems.report(
        entry
            .problem("must be a bit rate", error.to_string())
            .help(format!("use a number and `k` or `M`, without a space; {}", entry.example())),
    )
}

fn language(entry: &Entry<'_>, problems: &mut Problems) -> Read<String> {
    let tag = entry.text(problems)?;
    let Some(fault) = language_fault(tag) else {
        return Ok(tag.to_owned());
    };
    let problem = entry.problem("must be a language tag (BCP 47)", fault);
    let with_hyphens = tag.replace('_', "-");
    let problem = match language_fault(&with_hyphens) {
        None => problem.help(format!("did you mean `\"{with_hyphens}\"`?")),
        Some(_) => problem.help(entry.example()),
    };
    Err(problems.report(problem))
}

/// The form of a tag by RFC 5646 2.1, without the registry: a language of two or three
/// letters (or `x` for private use), then subtags of one to eight letters and digits, of which
/// a single letter announces another.
fn language_fault(tag: &str) -> Option<&'static str> {
    if tag.is_empty() {
        return Some("empty");
    }
    if !tag.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Some("expected letters, digits and `-`");
    }
    let mut subtags = tag.split('-');
    let language = subtags.next().unwrap_or_default();
    let is_private = language.eq_ignore_ascii_case("x");
    let is_language = (2..=3).contains(&language.len()) && language.bytes().all(|b| b.is_ascii_alphabetic());
    if !(is_language || is_private) {
        return Some("expected a language of two or three letters first");
    }
    if subtags.any(|subtag| !(1..=8).contains(&subtag.len())) {
        return Some("expected one to eight letters or digits between `-`");
    }
    if tag.rsplit('-').next().is_some_and(|last| last.len() == 1) {
        return Some("expected more after the last letter");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::testing::{SPEC, has, invalid, ladder};

    fn spec(lines: &str) -> String {
        format!("{SPEC}[[audio]]\nname = 'main'\n{lines}\n")
    }

    fn audio(lines: &str) -> AudioRendition {
        ladder(&spec(lines)).audio.remove(0)
    }

    #[test]
    fn a_rendition_needs_only_a_name() {
        assert_eq!(
            audio(""),
            AudioRendition {
                name: "main".to_owned(),
                codec: AudioCodec::Opus,
                bitrate: BitsPerSecond(128_000),
                channels: None,
                language: None,
                track: None,
            }
        );
        has(
            &invalid(&format!("{SPEC}[[audio]]\n")),
            &["missing key `name` in `[[audio]]`", "add `name = \"main\"`"],
        );
    }

    #[test]
    fn all_keys_are_read() {
        let lines = "codec='opus'\nbitrate='0.096M'\nchannels=1\nlanguage='pt-BR'\ntrack=3";
        let all = audio(lines);
        assert_eq!(all.bitrate, BitsPerSecond(96_000));
        assert_eq!((all.channels, all.track), (Some(1), Some(3)));
        assert_eq!(all.language.as_deref(), Some("pt-BR"));
    }

    #[test]
    fn a_ladder_may_be_silent() {
        assert_eq!(ladder(SPEC).audio, []);
        assert_eq!(ladder(&format!("audio = []\n{SPEC}")).audio, []);
    }

    #[test]
    fn bit_rates_are_given_back_with_a_unit() {
        for (value, help) in [
            ("128", "write `bitrate = \"128k\"`"),
            ("96000", "write `bitrate = \"96k\"`"),
            ("1", "for example: `bitrate = \"128k\"`"),
            ("128.5", "for example: `bitrate = \"128k\"`"),
        ] {
            has(
                &invalid(&spec(&format!("bitrate = {value}"))),
                &["`bitrate` in `[[audio]]` must be a bit rate in quotes with a unit", "missing unit", help],
            );
        }
        has(
            &invalid(&spec("bitrate = '128kbps'")),
            &["must be a bit rate", "unknown unit `kbps`", "use a number and `k` or `M`"],
        );
        has(&invalid(&spec("bitrate = false")), &["must be a bit rate in quotes"]);
    }

    #[test]
    fn bit_rates_are_what_opus_can_do() {
        assert_eq!(audio("bitrate = '6k'").bitrate, BitsPerSecond(6_000));
        assert_eq!(audio("bitrate = '510000'").bitrate, BitsPerSecond(510_000));
        for (value, label) in [
            ("5999", "5.999k bit/s is too low"),
            ("128", "128 bit/s is too low"),
            ("1.2M", "1.2M bit/s is too high"),
        ] {
            has(
                &invalid(&spec(&format!("bitrate = '{value}'"))),
                &["`bitrate` in `[[audio]]` must be from 6k to 510k", label],
            );
        }
    }

    #[test]
    fn other_values_have_limits() {
        has(&invalid(&spec("channels = 6")), &["`channels` in `[[audio]]` must be from 1 to 2"]);
        has(&invalid(&spec("track = -1")), &["`track` in `[[audio]]` must be from 0 to"]);
        has(&invalid(&spec("codec = 'flac'")), &["`codec` in `[[audio]]` must be `opus`"]);
    }

    #[test]
    fn language_tags_are_well_formed() {
        for tag in ["en", "pt-BR", "zh-Hant-TW", "sl-rozaj-biske", "de-1996", "de-x-co", "x-elf"] {
            assert_eq!(audio(&format!("language = '{tag}'")).language.as_deref(), Some(tag));
        }
        for (tag, parts) in [
            ("", ["empty", "for example: `language = \"en\"`"]),
            ("en_US", ["expected letters, digits and `-`", "did you mean `\"en-US\"`?"]),
            ("english", ["two or three letters", "for example"]),
            ("12", ["two or three letters", "for example"]),
            ("en--US", ["one to eight letters", "for example"]),
            ("en-", ["one to eight letters", "for example"]),
            ("en-abcdefghi", ["one to eight letters", "for example"]),
            ("de-x", ["expected more", "for example"]),
            ("x", ["expected more", "for example"]),
        ] {
            let text = invalid(&spec(&format!("language = '{tag}'")));
            has(&text, &["`language` in `[[audio]]` must be a language tag (BCP 47)"]);
            has(&text, &parts);
        }
    }
}

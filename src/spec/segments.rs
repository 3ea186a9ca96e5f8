//! Reads `[segments]`: how long chunks shall be. The cutting itself is elsewhere.

use std::ops::RangeInclusive;

use toml::de::DeValue;

use super::entry::Entry;
use super::fields::Fields;
use super::keys;
use super::ladder::{SegmentMode, SegmentPolicy};
use super::problems::{Diagnostic, Problems, Read, Reported, Span};
use super::reserved;
use super::units::{Millis, UnitError};

const TARGET: RangeInclusive<Millis> = Millis(200)..=Millis(60_000);
const DEFAULT_TARGET: Millis = Millis(2_000);

/// Shorter chunks leave an encoder nothing to predict from; longer ones make re-encodes after an edit large
/// and a player slow to start.
const BOUNDS: RangeInclusive<Millis> = Millis(100)..=Millis(120_000);

/// A segment of a quarter of a second and less is passed over by hls.js when it changes the rung just
/// before it (`maxFragLookUpTolerance`), which leaves a hole in the video.
const PLAYABLE: Millis = Millis(300);

/// A length and its place in the spec.
struct Length {
    length: Millis,
    span: Span,
}

pub(super) fn read(root: &mut Fields<'_>, problems: &mut Problems) -> Read<SegmentPolicy> {
    match root.table("segments", &keys::SEGMENTS, problems)? {
        Some(fields) => policy(fields, problems),
        None => Ok(content(DEFAULT_TARGET, None, None)),
    }
}

fn policy(mut fields: Fields<'_>, problems: &mut Problems) -> Read<SegmentPolicy> {
    let mode = fields.optional("mode", |entry| entry.choice(problems));
    let target = fields.optional("target", |entry| duration(&entry, TARGET, problems));
    let (min, max) = (fields.entry("min"), fields.entry("max"));
    fields.finish(problems);
    if let Ok(Some(SegmentMode::Fixed)) = mode {
        for entry in [min, max].into_iter().flatten() {
            problems.report(only_with_content(&entry));
        }
        let target = target?.map_or(DEFAULT_TARGET, |target| target.length);
        return Ok(SegmentPolicy { mode: SegmentMode::Fixed, target, min: target, max: target });
    }
    let mut bound =
        |entry: Option<Entry<'_>>| entry.map(|entry| duration(&entry, BOUNDS, problems)).transpose();
    let (min, max) = (bound(min), bound(max));
    let (target, min, max) = (target?, min?, max?);
    let length = target.as_ref().map_or(DEFAULT_TARGET, |target| target.length);
    if let Some(min) = min.as_ref().filter(|min| min.length > length) {
        let problem = Diagnostic::new("`min` in `[segments]` is larger than `target`");
        crossed(problem, min, target.as_ref(), problems);
    }
    if let Some(max) = max.as_ref().filter(|max| max.length < length) {
        let problem = Diagnostic::new("`max` in `[segments]` is smaller than `target`");
        crossed(problem, max, target.as_ref(), problems);
    }
    mode?;
    Ok(content(length, min.map(|min| min.length), max.map(|max| max.length)))
}

fn content(target: Millis, min: Option<Millis>, max: Option<Millis>) -> SegmentPolicy {
    SegmentPolicy {
        mode: SegmentMode::Content,
        target,
        min: min.unwrap_or(Millis((target.0 / 10).max(PLAYABLE.0.min(target.0 / 2)))),
        max: max.unwrap_or(Millis(target.0 * 2).min(*BOUNDS.end())),
    }
}

fn only_with_content(entry: &Entry<'_>) -> Diagnostic {
    Diagnostic::new(format!("{} requires `mode = \"content\"`", entry.name()))
        .at(entry.key_span.clone(), "the mode is `fixed`")
        .help("remove it: with `fixed` every chunk is as long as `target`")
}

fn crossed(problem: Diagnostic, bound: &Length, target: Option<&Length>, problems: &mut Problems) {
    let problem = problem.at(bound.span.clone(), bound.length.to_string());
    let problem = match target {
        Some(target) => problem.and(target.span.clone(), format!("`target` is {}", target.length)),
        None => problem.help(format!("`target` is {DEFAULT_TARGET} by default")),
    };
    problems.report(problem.help("required: `min` <= `target` <= `max`"));
}

/// Reads a duration.
fn duration(entry: &Entry<'_>, range: RangeInclusive<Millis>, problems: &mut Problems) -> Read<Length> {
    let text = match entry.value {
        DeValue::String(text) => text,
        _ => return Err(without_unit(entry, problems)),
    };
    let length: Millis = match text.parse() {
        Ok(length) => length,
        Err(error) => {
            return Err(match reserved::value(entry, text) {
                Some(reserved) => problems.report(reserved),
                None => not_a_duration(entry, text, &error, problems),
            });
        }
    };
    if !range.contains(&length) {
        let label = match length < *range.start() {
            true => "too short",
            false => "too long",
        };
        let headline = format!("must be from {} to {}", range.start(), range.end());
        return Err(problems.report(entry.problem(&headline, label).help(entry.example())));
    }
    Ok(Length { length, span: entry.span.clone() })
}

/// A bare number: the hint is the same number with a unit.
fn without_unit(entry: &Entry<'_>, problems: &mut Problems) -> Reported {
    let number = match entry.value {
        DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
        DeValue::Float(number) => number.as_str(),
        _ => return entry.not("a duration in quotes", problems),
    };
    problems.report(
        entry
            .problem("must be a duration in quotes with a unit", "missing unit")
            .help(with_unit(entry, number)),
    )
}

fn not_a_duration(entry: &Entry<'_>, text: &str, error: &UnitError, problems: &mut Problems) -> Reported {
    let problem = entry.problem("must be a duration", error.to_string());
    problems.report(match error {
        UnitError::NoUnit => problem.help(with_unit(entry, text)),
        _ => problem.help(format!("use a number and `ms`, `s` or `m`, without a space; {}", entry.example())),
    })
}

/// The line with the unit that was most likely meant: no chunk lasts a hundred seconds.
fn with_unit(entry: &Entry<'_>, number: &str) -> String {
    let unit = match number.split('.').next() {
        Some(whole) if whole.len() > 2 => "ms",
        _ => "s",
    };
    let value = format!("{number}{unit}");
    match value.parse::<Millis>() {
        Ok(_) => format!("write `{} = \"{value}\"`", entry.key.name),
        Err(_) => entry.example(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::testing::{SPEC, has, invalid, ladder};

    fn spec(lines: &str) -> String {
        format!("{SPEC}[segments]\n{lines}\n")
    }

    fn lengths(lines: &str) -> (SegmentMode, [u64; 3]) {
        let policy = ladder(&spec(lines)).segments;
        (policy.mode, [policy.min.0, policy.target.0, policy.max.0])
    }

    #[test]
    fn what_is_not_said_follows_from_the_target() {
        let content = SegmentMode::Content;
        assert_eq!(ladder(SPEC).segments.target, Millis(2_000));
        assert_eq!(lengths(""), (content, [300, 2_000, 4_000]));
        assert_eq!(lengths("target = '1s'"), (content, [300, 1_000, 2_000]));
        assert_eq!(lengths("target = '500ms'"), (content, [250, 500, 1_000]));
        assert_eq!(lengths("target = '6s'"), (content, [600, 6_000, 12_000]));
        assert_eq!(lengths("target = '200ms'"), (content, [100, 200, 400]));
        assert_eq!(lengths("target = '1m'"), (content, [6_000, 60_000, 120_000]));
        assert_eq!(
            lengths("mode = 'content'\ntarget = '1.5s'\nmin = '1.5s'\nmax = '1500ms'"),
            (content, [1_500, 1_500, 1_500])
        );
    }

    #[test]
    fn a_fixed_grid_has_one_length() {
        let fixed = SegmentMode::Fixed;
        assert_eq!(lengths("mode = 'fixed'"), (fixed, [2_000; 3]));
        assert_eq!(lengths("mode = 'fixed'\ntarget = '4s'"), (fixed, [4_000; 3]));
        let text = invalid(&spec("mode = 'fixed'\nmin = 'nonsense'\nmax = '4s'"));
        has(
            &text,
            &[
                "error: `min` in `[segments]` requires `mode = \"content\"`",
                "^^^ the mode is `fixed`",
                "help: remove it",
                "error: `max` in `[segments]` requires",
            ],
        );
        assert_eq!(text.matches("error:").count(), 2, "{text}");
    }

    #[test]
    fn a_mode_is_one_of_two() {
        has(
            &invalid(&spec("mode = 'contents'")),
            &["`mode` in `[segments]` must be `content` or `fixed`", "did you mean `\"content\"`?"],
        );
    }

    #[test]
    fn a_plain_number_is_given_back_with_a_unit() {
        for (value, help) in [
            ("2", "help: write `target = \"2s\"`"),
            ("1.5", "help: write `target = \"1.5s\"`"),
            ("2000", "help: write `target = \"2000ms\"`"),
            ("-2", "help: for example: `target = \"2s\"`"),
            ("inf", "help: for example: `target = \"2s\"`"),
        ] {
            has(
                &invalid(&spec(&format!("target = {value}"))),
                &["`target` in `[segments]` must be a duration in quotes with a unit", "missing unit", help],
            );
        }
        has(
            &invalid(&spec("target = '2'")),
            &["must be a duration", "missing unit", "write `target = \"2s\"`"],
        );
        has(&invalid(&spec("target = true")), &["must be a duration in quotes", "found a boolean"]);
    }

    #[test]
    fn what_is_no_duration_is_told_why() {
        for (value, reason) in [
            ("2 s", "unknown unit `s`"),
            ("2sec", "unknown unit `sec`"),
            ("1.0001s", "more precise than a millisecond"),
            ("two", "not a number with a unit"),
            ("99999999999999999999s", "number too large"),
        ] {
            has(
                &invalid(&spec(&format!("target = '{value}'"))),
                &["must be a duration", reason, "use a number and `ms`, `s` or `m`"],
            );
        }
    }

    #[test]
    fn lengths_have_limits() {
        for (line, headline, label) in [
            ("target = '199ms'", "must be from 200ms to 60s", "too short"),
            ("target = '61s'", "must be from 200ms to 60s", "too long"),
            ("min = '99ms'", "must be from 100ms to 120s", "too short"),
            ("max = '121s'", "must be from 100ms to 120s", "too long"),
        ] {
            has(&invalid(&spec(line)), &[headline, label]);
        }
    }

    #[test]
    fn the_target_lies_between_the_bounds() {
        has(
            &invalid(&spec("target = '2s'\nmin = '3s'\nmax = '1s'")),
            &[
                "error: `min` in `[segments]` is larger than `target`",
                "^^^^ 3s",
                "---- `target` is 2s",
                "error: `max` in `[segments]` is smaller than `target`",
                "^^^^ 1s",
                "required: `min` <= `target` <= `max`",
            ],
        );
        has(&invalid(&spec("max = '1s'")), &["is smaller than `target`", "`target` is 2s by default"]);
    }
}

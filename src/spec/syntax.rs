//! Text to TOML tree, with the parser's errors in the form of rivet's own. Syntax errors are shown alone: on
//! an incomplete tree, the other rules would find errors that are not there.

use std::collections::HashMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue, Error};

use super::problems::{Diagnostic, KEPT, Problems, Read, Span, quoted};

/// Up to here all mistakes are looked for; beyond, only the first. The parser takes some hundred
/// bytes for each, and there may be one for each byte of the text.
const ALL_WITHIN: usize = 1 << 20;

/// Tables of which a spec may hold many.
const LISTS: [&str; 3] = ["title", "rung", "audio"];

/// Parses the text of a spec.
pub(super) fn tree<'i>(text: &'i str, problems: &mut Problems) -> Read<Spanned<DeTable<'i>>> {
    let (tree, mut errors) = if text.len() <= ALL_WITHIN {
        DeTable::parse_recoverable(text)
    } else {
        match DeTable::parse(text) {
            Ok(tree) => (tree, Vec::new()),
            Err(error) => (Spanned::new(0..0, DeTable::new()), vec![error]),
        }
    };
    errors.sort_by_key(|error| span(error).start);
    let first = first_definitions(text, &errors);
    let mut reported = None;
    let mut line_end = 0;
    for error in &errors {
        let span = span(error);
        // Further errors on the same line are mostly caused by the first.
        if reported.is_some() && span.start <= line_end {
            continue;
        }
        let rest = text.get(span.start..).unwrap_or_default();
        line_end = span.start + rest.find('\n').unwrap_or(rest.len());
        reported = Some(problems.report(diagnostic(text, error, span, &first)));
    }
    match reported {
        None => Ok(tree),
        Some(reported) => Err(reported),
    }
}

fn span(error: &Error) -> Span {
    error.span().unwrap_or(0..0)
}

/// What the parser says of a key or a header that is defined again.
const DUPLICATE: &str = "duplicate key";

/// For duplicates, by where they start: where the same key of the same table is defined first. The parser
/// does not tell. So the text is parsed again with stand-ins for the duplicates: the table in which a
/// stand-in turns up is the one that holds the first definition. Only for as many as are shown, and not in
/// texts of which only the first mistake is looked for.
fn first_definitions(text: &str, errors: &[Error]) -> HashMap<usize, Span> {
    let duplicates: Vec<Span> =
        errors.iter().filter(|error| error.message() == DUPLICATE).map(span).take(KEPT).collect();
    let mut first = HashMap::new();
    if duplicates.is_empty() || text.len() > ALL_WITHIN {
        return first;
    }
    let (mut renamed, mut end) = (String::with_capacity(text.len()), 0);
    for (number, span) in duplicates.iter().enumerate() {
        renamed += text.get(end..span.start).unwrap_or_default();
        renamed += &stand_in(number);
        end = span.end;
    }
    renamed += text.get(end..).unwrap_or_default();
    let (tree, _) = DeTable::parse_recoverable(&renamed);
    let mut tables = vec![tree.get_ref()];
    while let Some(table) = tables.pop() {
        for (key, value) in table {
            match value.get_ref() {
                DeValue::Table(table) => tables.push(table),
                DeValue::Array(values) => {
                    tables.extend(values.iter().filter_map(|value| value.get_ref().as_table()));
                }
                _ => {}
            }
            let number = key.get_ref().strip_prefix(STAND_IN).and_then(|number| number.parse().ok());
            let Some(duplicate) = number.and_then(|number: usize| duplicates.get(number)) else { continue };
            let name = text.get(duplicate.clone()).unwrap_or_default().trim_matches(['"', '\'']);
            if let Some((key, _)) = table.get_key_value(name) {
                first.insert(duplicate.start, in_original(key.span(), &duplicates));
            }
        }
    }
    first
}

const STAND_IN: &str = "rivet-duplicate-";

fn stand_in(number: usize) -> String {
    format!("{STAND_IN}{number}")
}

/// A span of the text with stand-ins as a span of the text without.
fn in_original(mut span: Span, duplicates: &[Span]) -> Span {
    for (number, duplicate) in duplicates.iter().enumerate() {
        // The text up to here is the original's already.
        if duplicate.start >= span.start {
            break;
        }
        let (longer, shorter) = (stand_in(number).len(), duplicate.len());
        span = (span.start + shorter).saturating_sub(longer)..(span.end + shorter).saturating_sub(longer);
    }
    span
}

fn line(text: &str, at: usize) -> usize {
    1 + text.get(..at).unwrap_or_default().matches('\n').count()
}

fn diagnostic(text: &str, error: &Error, span: Span, first: &HashMap<usize, Span>) -> Diagnostic {
    let (what, expected) = match error.message().split_once(", expected ") {
        Some((what, expected)) => (what, Some(expected)),
        None => (error.message(), None),
    };
    let written = text.get(span.clone()).unwrap_or_default();
    let before = text.get(..span.start).unwrap_or_default();
    let is_header = before.rsplit('\n').next().is_some_and(|line| line.trim_start().starts_with('['));
    match what {
        DUPLICATE => {
            let what = format!("duplicate {} {}", if is_header { "table" } else { "key" }, quoted(written));
            let problem = match first.get(&span.start) {
                Some(first) => {
                    let line = line(text, first.start);
                    Diagnostic::new(format!("{what}; first defined on line {line}"))
                        .and(first.clone(), "first defined here")
                }
                None => Diagnostic::new(what),
            };
            problem.at(span, "defined again here").help(match is_header {
                true if LISTS.contains(&written) => format!("write `[[{written}]]` for each"),
                true => "move its keys to the first, and remove this header".to_owned(),
                false => "remove one".to_owned(),
            })
        }
        "string values must be quoted" if written.trim().is_empty() => {
            Diagnostic::new("invalid TOML: missing value").at(span, "expected a value")
        }
        "string values must be quoted" => Diagnostic::new("unquoted string")
            .at(span, "expected a value")
            .help(format!("write {}", in_quotes(written))),
        _ => {
            let label = match expected {
                Some("nothing") => "unexpected".to_owned(),
                Some(expected) => format!("expected {expected}"),
                None => "here".to_owned(),
            };
            Diagnostic::new(format!("invalid TOML: {what}")).at(span, label)
        }
    }
}

fn in_quotes(written: &str) -> String {
    quoted(&format!("\"{}\"", written.trim()))
}

#[cfg(test)]
mod tests {
    use crate::spec::testing::{has, invalid};

    #[test]
    fn a_string_without_quotes() {
        has(
            &invalid("[title]\nsource = media/bunny.mp4\n"),
            &["error: unquoted string", "ladder.toml:2:10", "help: write `\"media/bunny.mp4\"`"],
        );
    }

    #[test]
    fn a_table_that_should_be_a_list() {
        has(
            &invalid("[rung]\nname = \"a\"\n[rung]\nname = \"b\"\n"),
            &[
                "error: duplicate table `rung`; first defined on line 1",
                "ladder.toml:3:2",
                "help: write `[[rung]]` for each",
            ],
        );
    }

    #[test]
    fn a_duplicate_names_the_line_of_the_first() {
        has(
            &invalid("[video]\ncrf = 30\n\ncrf = 31\n"),
            &[
                "error: duplicate key `crf`; first defined on line 2\n --> ladder.toml:4:1",
                "--- first defined here",
                "^^^ defined again here",
                "help: remove one",
            ],
        );
        // Of keys of that name in other tables, in inline tables, and behind other duplicates.
        let text = invalid(
            "[[rung]]\ncrf = 1\ncrf = 2\ncrf = 3\n[[rung]]\nx = { crf = 4, 'crf' = 5 }\n\"crf\" = 6\ncrf = 7\n\
             [title.video]\n[video]\n[rung-2.video]\n[video]\n[encoder.a]\n[encoder.a]\n",
        );
        let told: Vec<&str> = text.split("error: ").skip(1).collect();
        let expected = [
            ("key `crf`; first defined on line 2", ":3:1"),
            ("key `crf`; first defined on line 2", ":4:1"),
            ("key `'crf'`; first defined on line 6", ":6:16"),
            ("key `crf`; first defined on line 7", ":8:1"),
            ("table `video`; first defined on line 10", ":12:2"),
            ("table `a`; first defined on line 13", ":14:10"),
        ];
        assert_eq!(told.len(), expected.len(), "{text}");
        for (told, (headline, place)) in told.into_iter().zip(expected) {
            has(
                told,
                &[
                    &format!(
                        "duplicate {headline}
"
                    ),
                    place,
                ],
            );
        }
    }

    #[test]
    fn several_mistakes_of_syntax_are_shown_and_nothing_else() {
        let text = invalid("[video]\ncrf = 3..2\nspeeed = 1\n[segments\nmode = \"fixed\"\n");
        has(&text, &["invalid TOML", "ladder.toml:2:9", "ladder.toml:4:10", "expected `]`"]);
        assert_eq!(text.matches("error:").count(), 2, "{text}");
        assert!(!text.contains("speeed`"), "{text}");
        assert!(!text.contains("missing"), "{text}");
    }

    #[test]
    fn a_text_that_ends_too_early() {
        has(&invalid("[title]\nsource = \"x"), &["invalid TOML", ":2:12"]);
        has(&invalid("[title]\nsource ="), &["invalid TOML", ":2:9"]);
    }

    #[test]
    fn garbage_of_any_size_gives_few_errors() {
        let text = invalid(&"]\n".repeat(300_000));
        has(&text, &["invalid TOML", "… and 299900 more errors"]);
        let text = invalid(&(0..60_000).map(|n| format!("{n}=1\n{n}=1\n")).collect::<String>());
        has(&text, &["duplicate key `99`; first defined on line 199", "… and 59900 more errors"]);
        let text = invalid(&"]\n".repeat(1_000_000));
        assert_eq!(text.matches("error:").count(), 1, "{text}");
    }

    #[test]
    fn nesting_as_deep_as_the_parser_allows_is_no_overflow() {
        let path = ["a"; 79].join(".");
        let deep = format!("{path} = {{ ").repeat(79) + "x = 1" + &" }".repeat(79);
        has(&invalid(&format!("[{path}]\n{deep}")), &["unknown table `a`"]);
        has(&invalid(&format!("x = {}", "[".repeat(100_000))), &["invalid TOML"]);
        has(&invalid(&format!("{} = 1", ["a"; 100_000].join("."))), &["invalid TOML"]);
    }
}

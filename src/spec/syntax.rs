//! Text to TOML tree, and what the TOML parser has against it in rivet's own form.
//! Mistakes of syntax are shown alone: on a tree with holes, the rules would find what is not so.

use toml::Spanned;
use toml::de::{DeTable, Error};

use super::problems::{Diagnostic, Problems, Read, Span, quoted};

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
    let mut reported = None;
    let mut line_end = 0;
    for error in &errors {
        let span = span(error);
        // What follows on the same line is mostly the parser finding its feet again.
        if reported.is_some() && span.start <= line_end {
            continue;
        }
        let rest = text.get(span.start..).unwrap_or_default();
        line_end = span.start + rest.find('\n').unwrap_or(rest.len());
        reported = Some(problems.report(diagnostic(text, error, span)));
    }
    match reported {
        None => Ok(tree),
        Some(reported) => Err(reported),
    }
}

fn span(error: &Error) -> Span {
    error.span().unwrap_or(0..0)
}

fn diagnostic(text: &str, error: &Error, span: Span) -> Diagnostic {
    let (what, expected) = match error.message().split_once(", expected ") {
        Some((what, expected)) => (what, Some(expected)),
        None => (error.message(), None),
    };
    let written = text.get(span.clone()).unwrap_or_default();
    let is_header = text.get(..span.start).is_some_and(|before| before.trim_end_matches(' ').ends_with('['));
    match what {
        "duplicate key" if is_header && LISTS.contains(&written) => {
            Diagnostic::new(format!("table {} stands here twice", quoted(written)))
                .at(span, "this is not the first")
                .help(format!("write `[[{written}]]`, with double brackets, for each of several"))
        }
        "duplicate key" => Diagnostic::new(format!("{} stands here twice", quoted(written)))
            .at(span, "this is not the first")
            .help("in one table, each key stands once; each table has one header"),
        "string values must be quoted" if written.trim().is_empty() => {
            Diagnostic::new("not valid TOML: a value is missing").at(span, "expected a value")
        }
        "string values must be quoted" => Diagnostic::new("a string without quotes")
            .at(span, "this is not a value of TOML")
            .help(format!("put it in quotes: {}", in_quotes(written))),
        _ => {
            let label = match expected {
                Some("nothing") => "this is too much".to_owned(),
                Some(expected) => format!("expected {expected}"),
                None => "here".to_owned(),
            };
            Diagnostic::new(format!("not valid TOML: {what}")).at(span, label)
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
            &[
                "error: a string without quotes",
                "ladder.toml:2:10",
                "help: put it in quotes: `\"media/bunny.mp4\"`",
            ],
        );
    }

    #[test]
    fn a_table_that_should_be_a_list() {
        has(
            &invalid("[rung]\nname = \"a\"\n[rung]\nname = \"b\"\n"),
            &[
                "error: table `rung` stands here twice",
                "ladder.toml:3:2",
                "help: write `[[rung]]`, with double brackets, for each of several",
            ],
        );
    }

    #[test]
    fn a_key_that_stands_twice() {
        has(
            &invalid("[video]\ncrf = 30\ncrf = 31\n"),
            &["error: `crf` stands here twice", "ladder.toml:3:1"],
        );
    }

    #[test]
    fn several_mistakes_of_syntax_are_shown_and_nothing_else() {
        let text = invalid("[video]\ncrf = 3..2\nspeeed = 1\n[segments\nmode = \"fixed\"\n");
        has(&text, &["not valid TOML", "ladder.toml:2:9", "ladder.toml:4:10", "expected `]`"]);
        assert_eq!(text.matches("error:").count(), 2, "{text}");
        assert!(!text.contains("speeed`"), "{text}");
        assert!(!text.contains("missing"), "{text}");
    }

    #[test]
    fn a_text_that_ends_too_early() {
        has(&invalid("[title]\nsource = \"x"), &["not valid TOML", ":2:12"]);
        has(&invalid("[title]\nsource ="), &["not valid TOML", ":2:9"]);
    }

    #[test]
    fn garbage_of_any_size_gives_few_errors() {
        let text = invalid(&"]\n".repeat(300_000));
        has(&text, &["not valid TOML", "… and 299900 more errors"]);
        let text = invalid(&"]\n".repeat(1_000_000));
        assert_eq!(text.matches("error:").count(), 1, "{text}");
    }

    #[test]
    fn nesting_as_deep_as_the_parser_allows_is_no_overflow() {
        let path = ["a"; 79].join(".");
        let deep = format!("{path} = {{ ").repeat(79) + "x = 1" + &" }".repeat(79);
        has(&invalid(&format!("[{path}]\n{deep}")), &["unknown table `a`"]);
        has(&invalid(&format!("x = {}", "[".repeat(100_000))), &["not valid TOML"]);
        has(&invalid(&format!("{} = 1", ["a"; 100_000].join("."))), &["not valid TOML"]);
    }
}

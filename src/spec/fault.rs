//! Shows mistakes that are found after the spec was read, such as an option that an encoder lacks, in the
//! form of all other errors.

use toml::de::{DeTable, DeValue};

use super::errors::SpecErrors;
use super::ladder::{FfmpegOptions, Ladder};
use super::problems::{Diagnostic, Problems, Span};

/// Something that is wrong with a value of the spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The way to the value from the top level: the tables' names, then the key.
    pub keys: Vec<String>,
    pub headline: String,
    /// A few words to stand beside the key.
    pub label: String,
    /// What to do.
    pub help: String,
}

/// Finds mistakes in the options of an encoder, which is given by FFmpeg's name.
pub type OptionCheck<'a> = &'a dyn Fn(&str, &FfmpegOptions) -> Vec<Fault>;

/// The faults as errors of the spec, each in its place in the spec's text; `Ok` if there are none.
pub fn no_faults(ladder: &Ladder, faults: Vec<Fault>) -> Result<(), SpecErrors> {
    let mut problems = Problems::default();
    let tree = DeTable::parse(&ladder.text).ok();
    for fault in faults {
        let span = tree.as_ref().and_then(|tree| place(tree.get_ref(), &fault.keys));
        let problem = Diagnostic::new(fault.headline);
        problems.report(match span {
            Some(span) => problem.at(span, fault.label).help(fault.help),
            // Text that the ladder was not read from has no such place.
            None => problem.help(fault.label).help(fault.help),
        });
    }
    match problems.is_empty() {
        true => Ok(()),
        false => Err(problems.into_errors(&ladder.named, &ladder.text)),
    }
}

/// Where a key stands.
fn place(table: &DeTable<'_>, keys: &[String]) -> Option<Span> {
    let (first, rest) = keys.split_first()?;
    let (key, value) = table.get_key_value(first.as_str())?;
    match (rest, value.get_ref()) {
        ([], _) => Some(key.span()),
        (rest, DeValue::Table(table)) => place(table, rest),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::spec::parse;
    use crate::spec::testing::{SPEC, has};

    fn fault(keys: &[&str]) -> Fault {
        Fault {
            keys: keys.iter().map(|&key| key.to_owned()).collect(),
            headline: "`x` cannot be set".to_owned(),
            label: "libaom-av1 has no such option".to_owned(),
            help: "did you mean `y`?".to_owned(),
        }
    }

    #[test]
    fn a_fault_is_underlined_where_it_stands() {
        let text = format!("{SPEC}[encoder.libaom-av1]\nx = 1\n");
        let ladder = parse(&text, Path::new("/here/ladder.toml")).unwrap();
        assert!(no_faults(&ladder, Vec::new()).is_ok());
        let errors = no_faults(&ladder, vec![fault(&["encoder", "libaom-av1", "x"])]).unwrap_err();
        has(
            &errors.to_string(),
            &[
                "error: `x` cannot be set",
                "--> /here/ladder.toml:8:1",
                "^ libaom-av1 has no such option",
                "help: did you mean `y`?",
            ],
        );
    }

    #[test]
    fn a_fault_without_a_place_is_told_all_the_same() {
        let ladder = parse(SPEC, Path::new("/here/ladder.toml")).unwrap();
        for keys in [&[][..], &["encoder"], &["title", "source", "x"]] {
            let errors = no_faults(&ladder, vec![fault(keys)]).unwrap_err().to_string();
            has(&errors, &["`x` cannot be set", "/here/ladder.toml", "has no such option"]);
        }
    }
}

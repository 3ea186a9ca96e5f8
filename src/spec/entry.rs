//! One key of the spec with its value: checks the type, and words the errors alike.
//! It knows TOML values, not what a ladder is.

use std::fmt::Display;
use std::ops::RangeInclusive;

use toml::de::DeValue;

use super::fields::Fields;
use super::keys::{Key, Table};
use super::problems::{Diagnostic, Problems, Read, Reported, Span, alternatives};
use super::reserved;
use crate::suggest;

/// A value that is one of a few words.
pub(super) trait Choice: Copy + 'static {
    /// Every word that can be chosen, and what it stands for.
    const ALL: &'static [(&'static str, Self)];
}

/// A key that is there, and its value.
#[derive(Clone)]
pub(super) struct Entry<'t> {
    pub(super) table: &'static Table,
    pub(super) key: &'static Key,
    pub(super) key_span: Span,
    pub(super) value: &'t DeValue<'t>,
    pub(super) span: Span,
}

impl<'t> Entry<'t> {
    /// The key as a headline names it: "`crf` in `[[rung]]`".
    pub(super) fn name(&self) -> String {
        format!("`{}` {}", self.key.name, self.table.place())
    }

    /// A problem with this value; `headline` goes on where [`Entry::name`] ends.
    pub(super) fn problem(&self, headline: &str, label: impl Into<String>) -> Diagnostic {
        Diagnostic::new(format!("{} {headline}", self.name())).at(self.span.clone(), label)
    }

    /// The help line that fits when nothing better is known.
    pub(super) fn example(&self) -> String {
        format!("for example: `{}`", self.key.example)
    }

    /// Reports a value of another type than `wanted`.
    pub(super) fn not(&self, wanted: &str, problems: &mut Problems) -> Reported {
        let found = kind(self.value);
        problems
            .report(self.problem(&format!("must be {wanted}"), format!("found {found}")).help(self.example()))
    }

    pub(super) fn text(&self, problems: &mut Problems) -> Read<&'t str> {
        match self.value {
            DeValue::String(text) => Ok(text),
            _ => Err(self.not("a string", problems)),
        }
    }

    /// A whole number within a range.
    pub(super) fn integer<T>(&self, range: RangeInclusive<T>, problems: &mut Problems) -> Read<T>
    where
        T: TryFrom<i128> + Into<i128> + Display + Copy,
    {
        let (low, high) = (*range.start(), *range.end());
        let number = match self.value {
            DeValue::Integer(number) => number,
            DeValue::String(text) if text.parse::<i128>().is_ok_and(|n| within(n, &range)) => {
                return Err(problems.report(
                    self.problem("must be an integer", "found a string")
                        .help(format!("write `{} = {text}`, without quotes", self.key.name)),
                ));
            }
            DeValue::String(text) => {
                return Err(match reserved::value(self, text) {
                    Some(reserved) => problems.report(reserved),
                    None => self.not("an integer", problems),
                });
            }
            _ => return Err(self.not("an integer", problems)),
        };
        // What 128 bits do not hold is outside of every range, too; TOML knows no such limit.
        let value = i128::from_str_radix(number.as_str(), number.radix()).ok();
        match value.filter(|value| within(*value, &range)) {
            Some(value) => T::try_from(value).map_err(|_| self.not("an integer", problems)),
            None => {
                let label = match value {
                    Some(value) if value < low.into() => "too small",
                    Some(_) => "too large",
                    None => "out of range",
                };
                Err(problems.report(
                    self.problem(&format!("must be from {low} to {high}"), label).help(self.example()),
                ))
            }
        }
    }

    /// One of the words that a type has for its values.
    pub(super) fn choice<T: Choice>(&self, problems: &mut Problems) -> Read<T> {
        let text = self.text(problems)?;
        if let Some((_, value)) = T::ALL.iter().find(|(name, _)| *name == text) {
            return Ok(*value);
        }
        if let Some(reserved) = reserved::value(self, text) {
            return Err(problems.report(reserved));
        }
        let names: Vec<&str> = T::ALL.iter().map(|(name, _)| *name).collect();
        let problem = self.problem(&format!("must be {}", alternatives(&names)), "unknown value");
        Err(problems.report(match suggest::nearest(text, names.iter().copied()) {
            Some(near) => problem.help(format!("did you mean `\"{near}\"`?")),
            None => problem.help(self.example()),
        }))
    }

    pub(super) fn is_list(&self) -> bool {
        matches!(self.value, DeValue::Array(_))
    }

    /// A list of such words, none twice. `what` each of them is, and what it would mean if there
    /// were none, in words for messages.
    pub(super) fn choices<T>(&self, what: &str, empty: &str, problems: &mut Problems) -> Read<Vec<T>>
    where
        T: Choice + PartialEq + Display,
    {
        self.distinct(what, empty, problems, Entry::choice)
    }

    /// A list, none of it twice, of what `read` makes of its elements.
    pub(super) fn distinct<T>(
        &self,
        what: &str,
        empty: &str,
        problems: &mut Problems,
        read: impl Fn(&Entry<'t>, &mut Problems) -> Read<T>,
    ) -> Read<Vec<T>>
    where
        T: Clone + PartialEq + Display,
    {
        let elements = self.elements(problems)?;
        if elements.is_empty() {
            return Err(problems.report(self.problem("is an empty array", empty).help(self.example())));
        }
        let mut seen: Vec<(T, Span)> = Vec::new();
        let choices: Vec<Read<T>> = elements
            .into_iter()
            .map(|element| {
                let choice: T = read(&element, problems)?;
                if let Some((_, first)) = seen.iter().find(|(other, _)| *other == choice) {
                    return Err(problems.report(
                        Diagnostic::new(format!("duplicate {what} `{choice}`"))
                            .at(element.span, "listed again here")
                            .and(first.clone(), "first listed here")
                            .help("remove one"),
                    ));
                }
                seen.push((choice.clone(), element.span));
                Ok(choice)
            })
            .collect();
        choices.into_iter().collect()
    }

    /// The elements of a list, as values of the same key.
    pub(super) fn elements(&self, problems: &mut Problems) -> Read<Vec<Entry<'t>>> {
        let DeValue::Array(elements) = self.value else {
            return Err(self.not("an array", problems));
        };
        Ok(elements
            .iter()
            .map(|element| Entry {
                table: self.table,
                key: self.key,
                key_span: self.key_span.clone(),
                value: element.get_ref(),
                span: element.span(),
            })
            .collect())
    }

    /// The elements of a list of tables.
    pub(super) fn tables(&self, table: &'static Table, problems: &mut Problems) -> Read<Vec<Fields<'t>>> {
        let elements = match self.value {
            DeValue::Array(_) => self.elements(problems)?,
            DeValue::Table(_) => {
                return Err(problems.report(
                    Diagnostic::new(format!("`{}` must be an array of tables", self.key.name))
                        .at(self.span.clone(), "found a single table")
                        .help(format!("write `{}` for each", table.header)),
                ));
            }
            _ => return Err(self.not("an array of tables", problems)),
        };
        // All elements are looked at before the first wrong one ends it.
        let tables: Vec<Read<Fields<'t>>> = elements
            .into_iter()
            .map(|element| match element.value {
                DeValue::Table(entries) => Ok(Fields::new(table, element.span, entries)),
                _ => Err(element.not("an array of tables", problems)),
            })
            .collect();
        tables.into_iter().collect()
    }
}

fn within<T: Into<i128> + Copy>(value: i128, range: &RangeInclusive<T>) -> bool {
    (*range.start()).into() <= value && value <= (*range.end()).into()
}

/// The type of a value, as messages name it.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date-time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

#[cfg(test)]
mod tests {
    use crate::spec::testing::{SPEC, has, invalid};

    /// Asserts the error when these lines are added to a rung.
    fn refused(lines: &str, parts: &[&str]) {
        has(&invalid(&format!("{SPEC}{lines}\n")), parts);
    }

    #[test]
    fn values_of_another_type_are_named() {
        refused("crf = 32.5", &["`crf` in `[[rung]]` must be an integer", "found a float"]);
        refused("crf = '32'", &["found a string", "write `crf = 32`, without quotes"]);
        refused("crf = '99'", &["found a string", "for example: `crf = 32`"]);
        refused("crf = true", &["found a boolean"]);
        refused("crf = 1979-05-27", &["found a date-time"]);
        refused("crf = [32]", &["found an array"]);
        refused("crf = { is = 32 }", &["found a table"]);
        refused("encoder = [1]", &["`encoder` in `[[rung]]` must be a string"]);
        has(
            &invalid(&format!("video = 'rav1e'\n{SPEC}")),
            &["`video` at the top level must be a table", "for example: `[video]`"],
        );
    }
}

//! Takes keys out of a TOML table one by one and remembers which were read; the rest are unknown keys. It
//! knows TOML tables, not what a ladder is.

use toml::de::{DeTable, DeValue};

use super::entry::Entry;
use super::keys::{self, Table};
use super::problems::{Diagnostic, Problems, Read, Span, alternatives, quoted};
use super::reserved;
use crate::suggest;

/// A table of the spec being read. End with [`Fields::finish`].
pub(super) struct Fields<'t> {
    table: &'static Table,
    span: Span,
    entries: &'t DeTable<'t>,
    /// Only to hold the reader against the list in `keys`.
    asked: Vec<&'static str>,
    /// Keys that are in no list and were read all the same.
    free: Vec<&'t str>,
}

/// A key that is in no list.
pub(super) struct FreeKey<'t> {
    pub(super) name: &'t str,
    pub(super) span: Span,
    pub(super) value: &'t DeValue<'t>,
    pub(super) value_span: Span,
}

impl<'t> Fields<'t> {
    /// `span` is where the table stands, for what is missing from it.
    pub(super) fn new(table: &'static Table, span: Span, entries: &'t DeTable<'t>) -> Fields<'t> {
        Fields { table, span, entries, asked: Vec::new(), free: Vec::new() }
    }

    pub(super) fn span(&self) -> Span {
        self.span.clone()
    }

    /// The value of a key, if it is there.
    pub(super) fn entry(&mut self, name: &'static str) -> Option<Entry<'t>> {
        let key = self.table.key(name);
        debug_assert!(key.is_some(), "`{name}` is not in keys.rs");
        self.asked.push(name);
        let (written, value) = self.entries.get_key_value(name)?;
        Some(Entry {
            table: self.table,
            key: key?,
            key_span: written.span(),
            value: value.get_ref(),
            span: value.span(),
        })
    }

    /// The keys that are not in `keys` and whose names are right by another rule, in the order of
    /// the file, each with its place and its value.
    pub(super) fn free(&mut self, is_right: impl Fn(&str) -> bool) -> Vec<FreeKey<'t>> {
        let listed = self.table;
        let mut free: Vec<FreeKey<'t>> = self
            .entries
            .iter()
            .map(|(key, value)| FreeKey {
                name: key.get_ref(),
                span: key.span(),
                value: value.get_ref(),
                value_span: value.span(),
            })
            .filter(|key| listed.key(key.name).is_none() && is_right(key.name))
            .collect();
        free.sort_by_key(|key| key.span.start);
        self.free.extend(free.iter().map(|key| key.name));
        free
    }

    /// What `read` makes of a key, if it is there.
    pub(super) fn optional<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(Entry<'t>) -> Read<T>,
    ) -> Read<Option<T>> {
        self.entry(name).map(read).transpose()
    }

    /// The value of a key that must be there.
    pub(super) fn required(&mut self, name: &'static str, problems: &mut Problems) -> Read<Entry<'t>> {
        self.entry(name).ok_or_else(|| {
            let problem = Diagnostic::new(format!("missing key `{name}` {}", self.table.place()))
                .at(self.span(), format!("`{name}` is missing here"));
            problems.report(match self.table.key(name) {
                Some(key) => problem.help(format!("add `{}`", key.example)),
                None => problem,
            })
        })
    }

    /// A table within this one, ready to be read.
    pub(super) fn table(
        &mut self,
        name: &'static str,
        table: &'static Table,
        problems: &mut Problems,
    ) -> Read<Option<Fields<'t>>> {
        self.optional(name, |entry| match entry.value {
            DeValue::Table(entries) => Ok(Fields::new(table, entry.span, entries)),
            DeValue::Array(_) => Err(problems.report(
                Diagnostic::new(format!("`{}` must be a single table", table.header))
                    .at(entry.key_span.clone(), "found an array")
                    .help(format!("write `{}`, once", table.header)),
            )),
            _ => Err(entry.not("a table", problems)),
        })
    }

    /// A list of tables within this one, which may be absent, each ready to be read.
    pub(super) fn tables(
        &mut self,
        name: &'static str,
        table: &'static Table,
        problems: &mut Problems,
    ) -> Read<Vec<Fields<'t>>> {
        match self.entry(name) {
            Some(entry) => entry.tables(table, problems),
            None => Ok(Vec::new()),
        }
    }

    /// Reports every key that was not read.
    pub(super) fn finish(self, problems: &mut Problems) {
        debug_assert!(
            self.table.all().all(|key| self.asked.contains(&key.name)),
            "{} lists a key that is never read; read: {:?}",
            self.table.header,
            self.asked
        );
        for (key, value) in self.entries {
            let name: &str = key.get_ref();
            if self.table.key(name).is_some() || self.free.contains(&name) {
                continue;
            }
            if let Some(reserved) = reserved::key(self.table, name, key.span()) {
                problems.report(reserved);
                continue;
            }
            let kind = match value.get_ref() {
                DeValue::Table(_) => "table",
                _ => "key",
            };
            problems.report(
                Diagnostic::new(format!("unknown {kind} {} {}", quoted(name), self.table.place()))
                    .at(key.span(), format!("unknown {kind}"))
                    .help(self.instead_of(name, value.get_ref())),
            );
        }
    }

    /// What to write where an unknown key stands.
    fn instead_of(&self, name: &str, value: &DeValue<'_>) -> String {
        let is_table = match value {
            DeValue::Table(_) => true,
            DeValue::Array(elements) => elements.iter().any(|e| e.get_ref().is_table()),
            _ => false,
        };
        if let (true, Some(key)) = (is_table, keys::ROOT.key(name)) {
            return format!("it is a table at the top level: `{}`", key.example);
        }
        let elsewhere: Vec<&str> = keys::tables()
            .filter(|table| !table.header.is_empty() && table.key(name).is_some())
            .map(|table| table.header)
            .collect();
        if !elsewhere.is_empty() {
            return format!("it belongs in {}", alternatives(&elsewhere));
        }
        let known: Vec<&str> = self.table.all().map(|key| key.name).collect();
        match suggest::nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("expected one of `{}`", known.join("`, `")),
        }
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
    fn unknown_keys_and_tables_say_what_to_write() {
        refused(
            "hieght = 720",
            &["error: unknown key `hieght` in `[[rung]]`", "^ unknown key", "help: did you mean `height`?"],
        );
        refused("bit-depth = 8", &["did you mean `bit_depth`?"]);
        refused("tiles = 4", &["help: it belongs in `[encoder.rav1e]`"]);
        refused("bitrate = '2M'", &["help: it belongs in `[[audio]]`"]);
        refused(
            "fps = 30",
            &["help: expected one of `name`, `width`, `height`, `encoder`, `crf`, `bit_depth`"],
        );
        refused("[rung.rav1e]\nspeed = 1", &["unknown table `rav1e` in `[[rung]]`"]);
        refused("[rung.audio]\nname = 'a'", &["it is a table at the top level: `[[audio]]`"]);
        refused(
            "[segment]\nmode = 'fixed'",
            &["unknown table `segment` at the top level", "did you mean `segments`?"],
        );
        refused("[[rungs]]\nname = 'x'", &["`rungs` at the top level", "did you mean `rung`?"]);
        refused("[encoder.rav1d]", &["unknown table `rav1d` in `[encoder]`", "did you mean `rav1e`?"]);
        refused("[encoder.rav1e]\nspede = 1", &["unknown key `spede` in `[encoder.rav1e]`"]);
        has(
            &invalid(&format!("crf = 30\n{SPEC}")),
            &["error: unknown key `crf` at the top level", "help: it belongs in `[video]` or `[[rung]]`"],
        );
    }
}

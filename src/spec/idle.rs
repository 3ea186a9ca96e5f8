//! Warns of keys without effect: options that no encoder of their rungs has. They are no errors, since they
//! may stay in a spec while encoders are tried. Tables of encoders that no rung uses are not warned of.

use toml::de::{DeTable, DeValue};

use super::catalog;
use super::errors::SpecErrors;
use super::ladder::{Ladder, Rung};
use super::problems::{Diagnostic, Problems};

/// The keys without effect, each in its place, as warnings.
pub fn idle_keys(ladder: &Ladder) -> Option<SpecErrors> {
    let mut problems = Problems::default();
    let tree = DeTable::parse(&ladder.text).ok()?;
    let tree = tree.get_ref();
    if let Some(DeValue::Table(video)) = tree.get("video").map(|value| value.get_ref()) {
        look(video, ("[video]", "no rung uses"), &ladder.rungs, &mut problems);
    }
    if let Some(DeValue::Array(rungs)) = tree.get("rung").map(|value| value.get_ref()) {
        for (table, rung) in rungs.iter().zip(&ladder.rungs) {
            if let DeValue::Table(table) = table.get_ref() {
                look(table, ("[[rung]]", "the rung does not use"), std::slice::from_ref(rung), &mut problems);
            }
        }
    }
    (!problems.is_empty()).then(|| problems.into_errors(&ladder.named, &ladder.text))
}

/// Checks a table against the rungs that it applies to. `which` describes encoders that none of them uses.
fn look(table: &DeTable<'_>, (header, which): (&str, &str), rungs: &[Rung], problems: &mut Problems) {
    for key in catalog::SHARED.iter().map(|key| key.name) {
        let Some((written, _)) = table.get_key_value(key) else { continue };
        let owners: Vec<&str> = catalog::owners(key).map(|(encoder, _)| encoder.name).collect();
        if rungs.iter().flat_map(|rung| &rung.encoders).any(|encoder| owners.contains(&encoder.name())) {
            continue;
        }
        let tables: Vec<String> = owners.iter().map(|encoder| format!("`[encoder.{encoder}]`")).collect();
        problems.report(
            Diagnostic::new(format!("`{key}` in `{header}` has no effect"))
                .at(written.span(), format!("an option of {}, which {which}", owners.join(" and ")))
                .help(format!("remove it, or set it in {}", tables.join(" or ")))
                .warning(),
        );
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::spec::parse;
    use crate::spec::testing::{HEAD, has};

    fn idle(lines: &str) -> Option<String> {
        let ladder = parse(&format!("{HEAD}{lines}"), Path::new("dir/ladder.toml")).unwrap();
        idle_keys(&ladder).map(|warnings| warnings.to_string())
    }

    #[test]
    fn a_key_that_no_encoder_has_is_told_in_its_place() {
        let lines = "[video]\nspeed = 3\nencoder = 'svt-av1'\n[[rung]]\nname = 'a'\nheight = 90\n\
                     [[rung]]\nname = 'b'\nheight = 80\nencoder = 'libaom-av1'\npreset = 3\n";
        let text = idle(lines).unwrap();
        let told = [
            "warning: `speed` in `[video]` has no effect\n --> dir/ladder.toml:5:1",
            "^^^^^ an option of rav1e, which no rung uses",
            "help: remove it, or set it in `[encoder.rav1e]`\n",
            "help: remove it, or set it in `[encoder.svt-av1]` or `[encoder.nvenc]`",
            "warning: `preset` in `[[rung]]` has no effect\n  --> dir/ladder.toml:14:1",
            "^^^^^^ an option of svt-av1 and nvenc, which the rung does not use",
        ];
        has(&text, &told);
        assert_eq!(text.matches("warning: ").count(), 2, "{text}");
    }

    #[test]
    fn a_key_that_some_encoder_has_is_not_told() {
        let rungs = "[[rung]]\nname = 'a'\nheight = 90\nencoder = ['nvenc', 'rav1e']\nspeed = 3\npreset = 3\n\
                     [[rung]]\nname = 'b'\nheight = 80\n";
        let video = "[video]\nencoder = 'svt-av1'\nspeed = 9\npreset = 7\n";
        assert_eq!(idle(&format!("{video}{rungs}")), None);
        assert_eq!(idle(&format!("[encoder.rav1e]\nspeed = 3\n[video]\nencoder = 'svt-av1'\n{rungs}")), None);
    }
}

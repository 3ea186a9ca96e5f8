//! Masks possible secrets in a spec's text before lines of it are shown with a mistake: private keys, and
//! in URLs users and passwords, parameters that look like secrets, and fragments. Anywhere in the text: a
//! line is shown whole, and a secret may be in the wrong place.

use crate::cache::remote::is_secret;
use crate::cache::trust::SECRET;

/// The text with asterisks in place of secrets, one for a byte, so that every place in it stays the same.
pub(super) fn mask(text: &str) -> String {
    let mut masked = text.as_bytes().to_vec();
    let is_end = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',');
    let mut start = 0;
    // A word has no end within it, so what is cut out is whole characters.
    for word in text.split(is_end) {
        for (from, to) in secrets(word) {
            masked[start + from..start + to].fill(b'*');
        }
        start += word.len();
        start += text[start..].chars().next().map_or(0, char::len_utf8);
    }
    String::from_utf8_lossy(&masked).into_owned()
}

/// Where secrets begin and end in a word.
fn secrets(word: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    if let Some(at) = word.find(SECRET) {
        found.push((at + SECRET.len(), word.len()));
    }
    let Some(scheme) = word.find("://") else { return found };
    let rest = scheme + "://".len();
    // A password may hold what else ends a host's name.
    if let Some(at) = word.rfind('@').filter(|at| *at > rest) {
        found.push((rest, at));
    }
    let end = word[rest..].find('#').map_or(word.len(), |at| rest + at);
    found.push((word.len().min(end + 1), word.len()));
    if let Some(query) = word[rest..end].find('?') {
        let mut start = rest + query + 1;
        for parameter in word[start..end].split('&') {
            if let Some((name, value)) = parameter.split_once('=')
                && is_secret(name, value)
            {
                found.push((start + name.len() + 1, start + parameter.len()));
            }
            start += parameter.len() + 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_covered_and_nothing_else_is() {
        for (text, shown) in [
            ("remote = \"s3://AKIA:hunter2@bucket/x\"", "remote = \"s3://************@bucket/x\""),
            ("remote = 'redis://:a/b?c@host'", "remote = 'redis://******@host'"),
            ("x = 's3://b?region=eu&Pass=ab&db=1'", "x = 's3://b?region=eu&Pass=**&db=1'"),
            ("x = 's3://b?sig=ab#cd' # as told", "x = 's3://b?sig=**#**' # as told"),
            ("['rivet-ed25519-secret:0a', 'ä']", "['rivet-ed25519-secret:**', 'ä']"),
            ("rivet-ed25519-secret:ä\n", "rivet-ed25519-secret:**\n"),
            ("x = 's3://b?region=eu' # a@b", "x = 's3://b?region=eu' # a@b"),
            ("source = 'a@b/c#d?key=e'", "source = 'a@b/c#d?key=e'"),
            ("://", "://"),
            ("", ""),
        ] {
            assert_eq!(mask(text), shown);
            assert_eq!(mask(text).len(), text.len());
        }
    }
}

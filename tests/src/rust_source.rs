//! Reads Rust source far enough to know which names it mentions: tokens without comments and
//! texts, and the paths among them, with `use` trees spread out. For the test of the layout; no
//! compiler, so that it sees code behind every `cfg` but the one of tests.

/// A path as it is written, and what it is part of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mention {
    /// `crate`, `node`, `Core` for `crate::node::Core`; a `*` at the end for all names.
    pub segments: Vec<String>,
    /// `pub use`: handed on, not used here.
    pub reexport: bool,
}

/// The tokens of a file: names, and single characters of punctuation. Comments, texts and
/// characters are left out, and so are modules and functions behind `#[cfg(test)]`.
#[must_use]
pub fn tokens(source: &str) -> Vec<String> {
    without_tests(&split(source))
}

/// The paths in a file.
#[must_use]
pub fn mentions(tokens: &[String]) -> Vec<Mention> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at] == "use" {
            let reexport = is_public(&tokens[..at]);
            at = use_tree(tokens, at + 1, &[], reexport, &mut found);
        } else if is_name(&tokens[at]) && follows(tokens, at + 1) {
            let (segments, next) = path(tokens, at);
            found.push(Mention {
                segments,
                reexport: false,
            });
            at = next;
        } else {
            at += 1;
        }
    }
    found
}

/// Whether a token is a name or a keyword.
#[must_use]
pub fn is_name(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

fn split(source: &str) -> Vec<String> {
    let text: Vec<char> = source.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&here) = text.get(at) {
        let next = text.get(at + 1).copied();
        at = match here {
            '/' if next == Some('/') => skip_line(&text, at),
            '/' if next == Some('*') => skip_comment(&text, at),
            '"' => skip_text(&text, at),
            '\'' => skip_character(&text, at),
            _ if here.is_alphanumeric() || here == '_' => {
                let end = text[at..]
                    .iter()
                    .position(|c| !c.is_alphanumeric() && *c != '_');
                let end = end.map_or(text.len(), |length| at + length);
                let word: String = text[at..end].iter().collect();
                match raw_text(&text, &word, end) {
                    Some(behind) => behind,
                    None => {
                        tokens.push(word);
                        end
                    }
                }
            }
            _ => {
                if !here.is_whitespace() {
                    tokens.push(here.to_string());
                }
                at + 1
            }
        };
    }
    tokens
}

fn skip_line(text: &[char], at: usize) -> usize {
    text[at..]
        .iter()
        .position(|c| *c == '\n')
        .map_or(text.len(), |length| at + length)
}

fn skip_comment(text: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < text.len() {
        match (text[at], text.get(at + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                at += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    at
}

fn skip_text(text: &[char], mut at: usize) -> usize {
    at += 1;
    while let Some(here) = text.get(at) {
        match here {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    at
}

/// `'a'`, `'\n'`, or the quote of a lifetime.
fn skip_character(text: &[char], at: usize) -> usize {
    match (text.get(at + 1), text.get(at + 2)) {
        (Some('\\'), _) => {
            let end = text[at + 3..].iter().position(|c| *c == '\'');
            end.map_or(text.len(), |length| at + 3 + length + 1)
        }
        (Some(_), Some('\'')) => at + 3,
        _ => at + 1,
    }
}

/// The end of `r"…"`, `r#"…"#`, `br"…"` that begins with the word before `at`.
fn raw_text(text: &[char], word: &str, at: usize) -> Option<usize> {
    if !["r", "br", "cr"].contains(&word) {
        return None;
    }
    let hashes = text[at..].iter().take_while(|c| **c == '#').count();
    if text.get(at + hashes) != Some(&'"') {
        return None;
    }
    let mut end = at + hashes + 1;
    while end < text.len() {
        let closed = text[end] == '"'
            && text[end + 1..]
                .iter()
                .take(hashes)
                .filter(|c| **c == '#')
                .count()
                == hashes;
        if closed {
            return Some(end + 1 + hashes);
        }
        end += 1;
    }
    Some(end)
}

/// Leaves out what `#[cfg(test)]` stands before, up to its closing brace or semicolon.
fn without_tests(tokens: &[String]) -> Vec<String> {
    const ATTRIBUTE: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at..]
            .iter()
            .take(ATTRIBUTE.len())
            .eq(ATTRIBUTE.iter())
        {
            at = item_end(tokens, at + ATTRIBUTE.len());
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

fn item_end(tokens: &[String], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token.as_str() {
            "{" => depth += 1,
            "}" => {
                depth -= 1;
                if depth == 0 {
                    return at;
                }
            }
            ";" if depth == 0 => return at,
            _ => {}
        }
    }
    at
}

/// Whether the tokens before a `use` end with `pub` or `pub(…)`.
fn is_public(before: &[String]) -> bool {
    match before.last().map(String::as_str) {
        Some("pub") => true,
        Some(")") => {
            let open = before.iter().rposition(|token| token == "(");
            open.is_some_and(|open| open > 0 && before[open - 1] == "pub")
        }
        _ => false,
    }
}

fn follows(tokens: &[String], at: usize) -> bool {
    tokens.get(at).is_some_and(|token| token == ":")
        && tokens.get(at + 1).is_some_and(|token| token == ":")
        && tokens.get(at + 2).is_some_and(|token| is_name(token))
}

fn path(tokens: &[String], mut at: usize) -> (Vec<String>, usize) {
    let mut segments = vec![tokens[at].clone()];
    while follows(tokens, at + 1) {
        at += 3;
        segments.push(tokens[at].clone());
    }
    (segments, at + 1)
}

/// Spreads out the tree that begins at `at`; returns what is behind it.
fn use_tree(
    tokens: &[String],
    mut at: usize,
    before: &[String],
    reexport: bool,
    found: &mut Vec<Mention>,
) -> usize {
    let mut segments = before.to_vec();
    loop {
        match tokens.get(at).map(String::as_str) {
            Some(":") => at += 1,
            Some("{") => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token != "}") {
                    at = use_tree(tokens, at, &segments, reexport, found);
                    if tokens.get(at).is_some_and(|token| token == ",") {
                        at += 1;
                    }
                }
                return at + 1;
            }
            Some("as") => at += 2,
            Some(name) if is_name(name) || name == "*" => {
                // `use a::{self}` names `a`.
                if name != "self" || segments.is_empty() {
                    segments.push(name.to_owned());
                }
                at += 1;
            }
            _ => {
                found.push(Mention { segments, reexport });
                return at;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(source: &str) -> Vec<String> {
        let found = mentions(&tokens(source));
        let text = |mention: &Mention| {
            let handed_on = if mention.reexport { "pub " } else { "" };
            format!("{handed_on}{}", mention.segments.join("::"))
        };
        found.iter().map(text).collect()
    }

    #[test]
    fn use_trees_are_spread_out() {
        let source = "use crate::a::{self, b::{C, D as E}, f::*};\npub(super) use super::g;";
        let expected = [
            "crate::a",
            "crate::a::b::C",
            "crate::a::b::D",
            "crate::a::f::*",
        ];
        assert_eq!(paths(source)[..4], expected);
        assert_eq!(paths(source)[4..], ["pub super::g"]);
    }

    #[test]
    fn paths_in_code_are_found_and_those_in_comments_texts_and_tests_are_not() {
        let source = r##"
            // crate::comment::X
            /* crate::comment /* nested */ ::Y */
            fn f<'a>(x: &'a str) -> crate::out::T {
                let _ = ("crate::text::X \" ", r#"crate::raw "::X"#, 'x', '\'', b"crate::z::Z");
                super::child::call::<u8>(x)
            }
            #[cfg(test)]
            mod tests { use crate::only_in_tests::X; fn g() { {} } }
            fn h() { self::last::y(); }
        "##;
        assert_eq!(
            paths(source),
            ["crate::out::T", "super::child::call", "self::last::y"]
        );
    }
}

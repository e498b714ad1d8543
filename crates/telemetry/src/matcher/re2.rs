//! Patterns of RE2, which Prometheus' users write, in the words of the `regex` crate.
//!
//! The languages differ in corners: `\d \w \s \b` are ASCII in RE2; `[` inside a class is a plain character, and so
//! are `&&` and `--`; `\Q…\E`, octal escapes and stray `{` exist; `x**` and counts above 1000 do not.

use std::fmt::Write as _;
use std::iter::Peekable;
use std::str::Chars;

/// RE2's limit on `{n,m}`.
const REPEAT_MAX: u32 = 1000;

const POSIX_CLASSES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
];

/// The same pattern for the `regex` crate, or what is wrong with it.
pub(super) fn translate(pattern: &str) -> Result<String, String> {
    let mut translation =
        Translation { rest: pattern.chars().peekable(), out: String::with_capacity(pattern.len() + 16) };
    translation.pattern()?;
    Ok(translation.out)
}

struct Translation<'p> {
    rest: Peekable<Chars<'p>>,
    out: String,
}

impl Translation<'_> {
    fn pattern(&mut self) -> Result<(), String> {
        // What the last thing written was: a repetition must not follow another.
        let mut repeated = false;
        while let Some(c) = self.rest.next() {
            let repetition = match c {
                '\\' => {
                    self.escape()?;
                    false
                }
                '[' => {
                    self.class()?;
                    false
                }
                '(' => {
                    self.group()?;
                    false
                }
                '{' => self.counted()?,
                '*' | '+' | '?' => {
                    self.out.push(c);
                    true
                }
                c => {
                    self.out.push(c);
                    false
                }
            };
            if repetition && repeated {
                return Err("invalid nested repetition operator".to_owned());
            }
            repeated = repetition;
            if repetition && self.rest.next_if_eq(&'?').is_some() {
                self.out.push('?');
            }
        }
        Ok(())
    }

    /// `(` and, where one follows, the flags: only those of RE2.
    fn group(&mut self) -> Result<(), String> {
        self.out.push('(');
        if self.rest.next_if_eq(&'?').is_none() {
            return Ok(());
        }
        self.out.push('?');
        while let Some(c) = self.rest.next_if(|c| !matches!(c, ')' | ':' | 'P' | '<')) {
            if !matches!(c, 'i' | 'm' | 's' | 'U' | '-') {
                return Err(format!("invalid or unsupported group (?{c}"));
            }
            self.out.push(c);
        }
        Ok(())
    }

    /// `{n}`, `{n,}`, `{n,m}`; anything else in RE2 is a plain brace. Returns whether it repeats.
    fn counted(&mut self) -> Result<bool, String> {
        let mut ahead = self.rest.clone();
        let inside: String = std::iter::from_fn(|| ahead.next_if(|c| c.is_ascii_digit() || *c == ',')).collect();
        let (low, high) = inside.split_once(',').unwrap_or((&inside, ""));
        let plain = ahead.next() != Some('}') || low.is_empty() || high.contains(',');
        if plain {
            self.out.push_str("\\{");
            return Ok(false);
        }
        for count in [low, high].into_iter().filter(|count| !count.is_empty()) {
            if count.parse::<u32>().is_err() || count.parse::<u32>().is_ok_and(|n| n > REPEAT_MAX) {
                return Err(format!("invalid repeat count {{{inside}}}: at most {REPEAT_MAX}"));
            }
        }
        self.rest = ahead;
        write!(self.out, "{{{inside}}}").expect("writing into a String cannot fail");
        Ok(true)
    }

    /// What follows a backslash outside of a class.
    fn escape(&mut self) -> Result<(), String> {
        match self.rest.peek() {
            // RE2's word boundary is ASCII; the negated one must not split characters, so it is said by letters.
            Some('b') => self.out.push_str("(?-u:\\b)"),
            Some('B') => self.out.push_str("(?-u:\\B)"),
            Some(c @ ('A' | 'z')) => {
                self.out.push('\\');
                self.out.push(*c);
            }
            Some('Q') => {
                self.rest.next();
                self.quoted();
                return Ok(());
            }
            _ => return self.class_escape().map(|single| self.push_single(single)),
        }
        self.rest.next();
        Ok(())
    }

    /// `\Q…\E`, up to the end where no `\E` follows.
    fn quoted(&mut self) {
        while let Some(c) = self.rest.next() {
            if c == '\\' && self.rest.next_if_eq(&'E').is_some() {
                return;
            }
            self.push_single(Some(c));
        }
    }

    /// An escape that stands for characters, legal inside and outside of classes: a single character is returned, a
    /// class is written.
    fn class_escape(&mut self) -> Result<Option<char>, String> {
        let c = self.rest.next().ok_or("trailing backslash at end of expression")?;
        let class = match c {
            'd' => "[0-9]",
            'D' => "[^0-9]",
            'w' => "[0-9A-Za-z_]",
            'W' => "[^0-9A-Za-z_]",
            's' => "[\\t\\n\\f\\r ]",
            'S' => "[^\\t\\n\\f\\r ]",
            'p' | 'P' => {
                self.unicode_class(c == 'P')?;
                return Ok(None);
            }
            _ => return self.single(c).map(Some),
        };
        self.out.push_str(class);
        Ok(None)
    }

    fn single(&mut self, c: char) -> Result<char, String> {
        let is_octal = |c: &char| matches!(c, '0'..='7');
        Ok(match c {
            'a' => '\x07',
            'f' => '\x0c',
            't' => '\t',
            'n' => '\n',
            'r' => '\r',
            'v' => '\x0b',
            'x' => self.hexadecimal()?,
            '0' | '1'..='7' if c == '0' || self.rest.peek().is_some_and(is_octal) => {
                let mut code = c.to_digit(8).unwrap_or_default();
                for _ in 0..2 {
                    let Some(digit) = self.rest.next_if(is_octal) else { break };
                    code = code * 8 + digit.to_digit(8).unwrap_or_default();
                }
                char::from_u32(code).ok_or("invalid escape sequence")?
            }
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => c,
            c => return Err(format!("invalid escape sequence \\{c}")),
        })
    }

    /// `\x41` or `\x{10FFFF}`, behind the `x`.
    fn hexadecimal(&mut self) -> Result<char, String> {
        let digits: String = if self.rest.next_if_eq(&'{').is_some() {
            let digits = std::iter::from_fn(|| self.rest.next_if(char::is_ascii_hexdigit)).collect();
            if self.rest.next() != Some('}') {
                return Err("invalid escape sequence \\x{".to_owned());
            }
            digits
        } else {
            self.rest.by_ref().take(2).collect()
        };
        let code = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
        code.ok_or_else(|| format!("invalid escape sequence \\x{digits}"))
    }

    /// `\pL`, `\p{Greek}`, `\p{^Greek}`.
    fn unicode_class(&mut self, mut negated: bool) -> Result<(), String> {
        let name: String = match self.rest.next() {
            Some('{') => {
                if self.rest.next_if_eq(&'^').is_some() {
                    negated = !negated;
                }
                let name = std::iter::from_fn(|| self.rest.next_if(|c| *c != '}')).collect();
                self.rest.next();
                name
            }
            Some(c) => c.to_string(),
            None => return Err("invalid character class range \\p".to_owned()),
        };
        let letter = if negated { 'P' } else { 'p' };
        write!(self.out, "\\{letter}{{{name}}}").expect("writing into a String cannot fail");
        Ok(())
    }

    /// A bracketed class, behind its `[`. Every character is written as a number, so that none has a meaning that
    /// RE2 does not give it.
    fn class(&mut self) -> Result<(), String> {
        self.out.push('[');
        if self.rest.next_if_eq(&'^').is_some() {
            self.out.push('^');
        }
        let mut first = true;
        loop {
            let c = self.rest.next().ok_or("missing closing ]")?;
            match c {
                ']' if !first => break,
                '[' if self.rest.peek() == Some(&':') => self.posix_class()?,
                c => self.class_item(c)?,
            }
            first = false;
        }
        self.out.push(']');
        Ok(())
    }

    fn class_item(&mut self, c: char) -> Result<(), String> {
        let Some(low) = self.class_character(c)? else { return Ok(()) };
        self.push_single(Some(low));
        let mut ahead = self.rest.clone();
        let is_range = ahead.next() == Some('-') && ahead.next().is_some_and(|end| end != ']');
        if !is_range {
            return Ok(());
        }
        self.rest.next();
        self.out.push('-');
        let end = self.rest.next().ok_or("missing closing ]")?;
        let high = self.class_character(end)?;
        if high.is_none_or(|high| high < low) {
            return Err(format!("invalid character class range {low}-{end}"));
        }
        self.push_single(high);
        Ok(())
    }

    /// A single character of a class; None where an escape wrote a whole class.
    fn class_character(&mut self, c: char) -> Result<Option<char>, String> {
        if c == '\\' { self.class_escape() } else { Ok(Some(c)) }
    }

    /// `[:alpha:]`, behind its `[`.
    fn posix_class(&mut self) -> Result<(), String> {
        let mut ahead = self.rest.clone();
        ahead.next();
        let name: String = std::iter::from_fn(|| ahead.next_if(|c| c.is_ascii_alphabetic() || *c == '^')).collect();
        if ahead.next() != Some(':') || ahead.next() != Some(']') {
            return self.class_item('[');
        }
        if !POSIX_CLASSES.contains(&name.trim_start_matches('^')) {
            return Err(format!("invalid character class range [:{name}:]"));
        }
        self.rest = ahead;
        write!(self.out, "[:{name}:]").expect("writing into a String cannot fail");
        Ok(())
    }

    fn push_single(&mut self, single: Option<char>) {
        if let Some(c) = single {
            write!(self.out, "\\x{{{:X}}}", u32::from(c)).expect("writing into a String cannot fail");
        }
    }
}

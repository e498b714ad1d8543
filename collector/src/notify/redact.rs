//! Log lines on their way into a pager: what looks like a secret is struck out.

use std::sync::LazyLock;

use regex::Regex;

const STRUCK: &str = "[redacted]";

static SECRETS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    [
        // JSON Web Tokens, wherever they stand.
        (r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.?[A-Za-z0-9_-]*", STRUCK),
        (r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}", "$1 [redacted]"),
        // AWS access key ids; the secret beside one is caught by its name below.
        (r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b", STRUCK),
        // user:password@ in URLs.
        (r"(?i)\b([a-z][a-z0-9+.-]*://[^\s:/@]*):[^\s@/]+@", "$1:[redacted]@"),
        // name=value, name: value, "name":"value".
        (
            r#"(?i)\b([a-z0-9_.-]*(?:password|passwd|secret|token|api[_-]?key|authorization|credential|private[_-]?key)[a-z0-9_.-]*["']?\s*[:=]\s*)("[^"]*"|'[^']*'|[^\s,;&}"']+)"#,
            "$1[redacted]",
        ),
        (r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)", STRUCK),
        // Mail addresses are personal data.
        (r"\b[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+\b", STRUCK),
        // Thirteen to sixteen digits in a row, or in groups of four: card numbers.
        (r"\b(?:\d{4}[ -]){3}\d{1,4}\b|\b\d{13,16}\b", STRUCK),
    ]
    .map(|(pattern, replacement)| (Regex::new(pattern).expect("a constant pattern"), replacement))
    .into()
});

/// The text without what looks like a secret.
pub(super) fn redact(text: &str) -> String {
    SECRETS
        .iter()
        .fold(text.to_owned(), |text, (pattern, replacement)| pattern.replace_all(&text, *replacement).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_struck_out_and_the_rest_stays() {
        for (text, expected) in [
            ("payment failed for order 4711 after 3 attempts", "payment failed for order 4711 after 3 attempts"),
            ("Authorization: Bearer abcdef0123456789", "Authorization: [redacted] [redacted]"),
            ("sent bearer abcdef0123456789.x", "sent bearer [redacted]"),
            ("got eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln back", "got [redacted] back"),
            ("postgres://app:hunter2@db:5432/x refused", "postgres://app:[redacted]@db:5432/x refused"),
            (r#"{"password":"hunter2","user":"x"}"#, r#"{"password":[redacted],"user":"x"}"#),
            ("DB_PASSWORD=hunter2 api-key=k1, next", "DB_PASSWORD=[redacted] api-key=[redacted], next"),
            ("key AKIAIOSFODNN7EXAMPLE used", "key [redacted] used"),
            ("mail to jane.doe@example.com bounced", "mail to [redacted] bounced"),
            ("card 4111 1111 1111 1111 declined", "card [redacted] declined"),
            ("trace 0af7651916cd43dd8448eb211c80319c", "trace 0af7651916cd43dd8448eb211c80319c"),
        ] {
            assert_eq!(redact(text), expected);
        }
    }
}

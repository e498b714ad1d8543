//! Paging: items in the order of their keys, a token that names the last key seen.
//!
//! A token belongs to its operation and survives changes between pages: nothing is repeated, and only items that
//! vanished are missing.

/// The token was not made by this operation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadToken;

/// At most `size` of `items` (sorted by their key) after the one that `token` names, and the next token.
pub(crate) fn page<T>(
    operation: &str,
    items: impl IntoIterator<Item = (String, T)>,
    token: Option<&str>,
    size: usize,
) -> Result<(Vec<T>, Option<String>), BadToken> {
    let after = token.map(|t| decode(operation, t)).transpose()?;
    let mut items = items.into_iter().filter(|(key, _)| after.as_ref().is_none_or(|after| key > after)).peekable();
    let mut taken = Vec::new();
    let mut last = None;
    while taken.len() < size {
        let Some((key, item)) = items.next() else { break };
        last = Some(key);
        taken.push(item);
    }
    let next = match (items.peek(), last) {
        (Some(_), Some(last)) => Some(encode(operation, &last)),
        _ => None,
    };
    Ok((taken, next))
}

fn encode(operation: &str, key: &str) -> String {
    format!("{operation}\0{key}").bytes().map(|b| format!("{b:02x}")).collect()
}

fn decode(operation: &str, token: &str) -> Result<String, BadToken> {
    if !token.is_ascii() || !token.len().is_multiple_of(2) {
        return Err(BadToken);
    }
    let bytes = (0..token.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&token[i..i + 2], 16))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| BadToken)?;
    let text = String::from_utf8(bytes).map_err(|_| BadToken)?;
    match text.split_once('\0') {
        Some((made_by, key)) if made_by == operation => Ok(key.to_owned()),
        _ => Err(BadToken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters(skip: &str) -> Vec<(String, String)> {
        "abcdef".chars().map(String::from).filter(|c| c != skip).map(|c| (c.clone(), c)).collect()
    }

    #[test]
    fn pages_cover_everything_once_even_when_an_item_vanishes_between() {
        let (first, token) = page("List", letters(""), None, 2).expect("first page");
        let (second, token) = page("List", letters("b"), token.as_deref(), 2).expect("second page");
        let (third, end) = page("List", letters(""), token.as_deref(), 2).expect("third page");
        assert_eq!([first, second, third].concat().concat(), "abcdef");
        assert_eq!(end, None);
    }

    #[test]
    fn a_token_of_another_operation_is_refused() {
        let (_, token) = page("List", letters(""), None, 2).expect("first page");
        assert_eq!(page("Other", letters(""), token.as_deref(), 2), Err(BadToken));
        assert_eq!(page("List", letters(""), Some("zz"), 2), Err(BadToken));
    }
}

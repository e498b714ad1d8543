//! The decision: what CloudWatch should hold, holds, and held when we last wrote it -> what to do. Pure.

use std::collections::BTreeMap;

/// A dashboard that should be there; the body is canonical.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub name: String,
    pub service: String,
    pub body: String,
}

/// One dashboard and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub name: String,
    pub action: Action,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is as wanted.
    Keep,
    Create,
    /// It is as we wrote it, and something else is wanted now.
    Update,
    /// It is neither as wanted nor as we last wrote it: somebody changed it, or had it before us.
    Restore,
    /// It is as we wrote it and no longer wanted.
    Delete,
    /// No longer wanted, but somebody changed it: it is theirs now.
    Abandon,
}

/// `actual` and `written` hold canonical bodies by name; of `actual` only what is wanted or was written is looked at.
pub fn plan(wanted: &[Wanted], actual: &BTreeMap<String, String>, written: &BTreeMap<String, String>) -> Vec<Step> {
    let kept = wanted.iter().map(|wanted| {
        let action = match actual.get(&wanted.name) {
            None => Action::Create,
            Some(body) if *body == wanted.body => Action::Keep,
            Some(body) if written.get(&wanted.name) == Some(body) => Action::Update,
            Some(_) => Action::Restore,
        };
        Step { name: wanted.name.clone(), action }
    });
    let gone = written.iter().filter(|(name, _)| wanted.iter().all(|w| w.name != **name)).map(|(name, body)| {
        let action = match actual.get(name) {
            Some(there) if there == body => Action::Delete,
            _ => Action::Abandon,
        };
        Step { name: name.clone(), action }
    });
    kept.chain(gone).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn each_combination_of_wanted_there_and_written_has_its_action() {
        let wanted = |body: &str| Wanted { name: "a".into(), service: "a".into(), body: body.into() };
        for (want, there, written, action) in [
            (Some("1"), None, None, Action::Create),
            (Some("1"), None, Some("1"), Action::Create),
            (Some("1"), Some("1"), None, Action::Keep),
            (Some("1"), Some("1"), Some("0"), Action::Keep),
            (Some("2"), Some("1"), Some("1"), Action::Update),
            (Some("2"), Some("9"), Some("1"), Action::Restore),
            (Some("1"), Some("9"), None, Action::Restore),
            (None, Some("1"), Some("1"), Action::Delete),
            (None, Some("9"), Some("1"), Action::Abandon),
            (None, None, Some("1"), Action::Abandon),
        ] {
            let wanted: Vec<Wanted> = want.into_iter().map(wanted).collect();
            let one = |body: Option<&str>| map(&body.map(|b| ("a", b)).into_iter().collect::<Vec<_>>());
            let steps = plan(&wanted, &one(there), &one(written));
            assert_eq!(steps, [Step { name: "a".into(), action }], "{want:?} {there:?} {written:?}");
        }
    }

    #[test]
    fn a_stranger_s_dashboard_is_not_looked_at() {
        assert_eq!(plan(&[], &map(&[("theirs", "1")]), &map(&[])), []);
    }
}

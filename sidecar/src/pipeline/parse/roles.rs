//! Which member of an object plays which role in the platform's layout, and whether the object is in that layout already.

use telemetry::Timestamp;
use telemetry::log_record::{Level, RequestContext};
use telemetry::trace::{SpanId, TraceId};

use super::Parsed;
use super::names::{ROLES, Role, role_of};
use super::scan::{self, FIELDS_MAX, Field, Kind};

/// Which member plays which role; an index into the fields.
pub(super) struct Roles {
    pub(super) of: [Option<u16>; ROLES],
    /// By field, the role that its name is of.
    named: [Option<Role>; FIELDS_MAX],
    /// Some member is not under its own name in the layout, or there are two for one role.
    foreign: bool,
}

impl Roles {
    pub(super) fn of(fields: &[Field<'_>]) -> Roles {
        let mut roles = Roles { of: [None; ROLES], named: [None; FIELDS_MAX], foreign: false };
        let mut ranks = [u8::MAX; ROLES];
        for (index, field) in fields.iter().enumerate() {
            // Behind an escape may hide a name that another member has too.
            roles.foreign |= field.key.contains('\\');
            let Some((role, rank)) = role_of(field.key) else { continue };
            roles.named[index] = Some(role);
            // A null says nothing, and nothing else would be left of it.
            let fits = match role {
                Role::Service | Role::Version | Role::Environment => field.is_string(),
                Role::Request => field.kind == Kind::Object,
                Role::Data => field.kind == Kind::Object,
                Role::DurationMs => field.kind == Kind::Number,
                _ => field.kind != Kind::Null,
            };
            let place = role as usize;
            roles.foreign |= rank > 0 || !fits || roles.of[place].is_some();
            if fits && rank < ranks[place] {
                (roles.of[place], ranks[place]) = (Some(index as u16), rank);
            }
        }
        roles
    }

    pub(super) fn get<'f, 'a>(&self, role: Role, fields: &'f [Field<'a>]) -> Option<&'f Field<'a>> {
        self.of[role as usize].map(|index| &fields[usize::from(index)])
    }

    /// The role that the name of a field is of, whether it plays it or another does.
    pub(super) fn named(&self, index: usize) -> Option<Role> {
        self.named[index]
    }

    /// The line needs no change: every reader of the platform's layout can read it.
    pub(super) fn as_it_should_be(&self, fields: &[Field<'_>]) -> Option<Parsed> {
        if self.foreign {
            return None;
        }
        let plain = |role| self.get(role, fields).map(Field::plain);
        // The layout has lower-case names of five levels; anything else is somebody else's JSON.
        let name = plain(Role::Level)??;
        let level = Level::ALL.into_iter().find(|level| level.as_str() == name)?;
        let timestamp = Timestamp::parse_rfc3339(plain(Role::Timestamp)??)?;
        for role in [Role::Service, Role::Version, Role::Environment] {
            self.get(role, fields)?;
        }
        if !self.get(Role::Message, fields)?.is_string() {
            return None;
        }
        let trace_id = match plain(Role::TraceId) {
            Some(text) => Some(TraceId::parse(text?)?),
            None => None,
        };
        for role in [Role::SpanId, Role::ParentSpanId] {
            if let Some(text) = plain(role) {
                SpanId::parse(text?)?;
            }
        }
        if let Some(request) = self.get(Role::Request, fields) {
            is_request(request).then_some(())?;
        }
        Some(Parsed { level, timestamp, trace_id })
    }
}

/// Whether the member is what the layout says of a request: what the readers of [`RequestContext`] can read.
pub(super) fn is_request(field: &Field<'_>) -> bool {
    const TEXTS: [&str; 3] = ["id", "method", "path"];
    const OPTIONAL: [&str; 4] = ["user_id", "org_id", "ip", "user_agent"];
    let mut members = Vec::with_capacity(8);
    if !scan::object(field.value, &mut members) {
        return false;
    }
    // Behind an escape may hide one of the names.
    if members.iter().any(|m| m.key.contains('\\')) {
        return serde_json::from_str::<RequestContext>(field.value).is_ok();
    }
    let count = |name: &str| members.iter().filter(|m| m.key == name).count();
    TEXTS.iter().all(|name| count(name) == 1)
        && OPTIONAL.iter().all(|name| count(name) <= 1)
        && members.iter().all(|m| match m.key {
            key if TEXTS.contains(&key) => m.is_string(),
            key if OPTIONAL.contains(&key) => m.is_string() || m.kind == Kind::Null,
            _ => true,
        })
}

//! Roles and what they may do: `resource:action:scope`, `*` for any, no scope for everything.

use std::fmt;
use std::str::FromStr;

/// How far a permission reaches; later is wider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    Public,
    Assigned,
    Own,
    All,
}

/// The platform's roles; each also has what the ones before it have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Guest,
    Member,
    Manager,
    OrgAdmin,
    SuperAdmin,
}

impl Role {
    pub const ALL: [Role; 5] = [Role::Guest, Role::Member, Role::Manager, Role::OrgAdmin, Role::SuperAdmin];

    pub fn as_str(self) -> &'static str {
        match self {
            Role::Guest => "Guest",
            Role::Member => "Member",
            Role::Manager => "Manager",
            Role::OrgAdmin => "OrgAdmin",
            Role::SuperAdmin => "SuperAdmin",
        }
    }

    /// What the role adds to the one below it.
    fn adds(self) -> &'static [&'static str] {
        match self {
            Role::Guest => &["products:read:public", "orders:read:assigned"],
            Role::Member => &[
                "products:read",
                "orders:create:own",
                "orders:read:own",
                "orders:update:own",
                "notifications:*:own",
                "users:read:own",
                "users:update:own",
            ],
            Role::Manager => &[
                "products:*",
                "categories:*",
                "inventory:*",
                "orders:*",
                "users:read",
                "reports:read",
                "notifications:create",
            ],
            Role::OrgAdmin => &["org:*", "users:*", "settings:*", "reports:*", "notifications:*"],
            Role::SuperAdmin => &["*:*"],
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Role::ALL.into_iter().find(|role| role.as_str() == text).ok_or(())
    }
}

/// The permissions of somebody with these roles, without those that a wider one already contains.
/// Unknown role names grant nothing.
pub fn of_roles(roles: &[String]) -> Vec<String> {
    let highest = roles.iter().filter_map(|name| name.parse::<Role>().ok()).max();
    let all: Vec<&str> =
        Role::ALL.into_iter().filter(|role| Some(*role) <= highest).flat_map(Role::adds).copied().collect();
    let contained = |p: &str| {
        all.iter().any(|wider| *wider != p && parse(wider).zip(parse(p)).is_some_and(|(w, p)| w.contains(&p)))
    };
    let mut narrowed: Vec<String> = all.iter().filter(|p| !contained(p)).map(|p| (*p).to_owned()).collect();
    narrowed.sort();
    narrowed.dedup();
    narrowed
}

struct Permission<'a> {
    resource: &'a str,
    action: &'a str,
    scope: Scope,
}

impl Permission<'_> {
    fn allows(&self, resource: &str, action: &str) -> bool {
        let action_fits = match self.action {
            "*" => true,
            // The documents also speak of writing, which is creating and updating.
            "write" => matches!(action, "write" | "create" | "update"),
            own => own == action,
        };
        (self.resource == "*" || self.resource == resource) && action_fits
    }

    fn contains(&self, other: &Permission<'_>) -> bool {
        self.allows(other.resource, other.action) && self.scope >= other.scope
    }
}

fn parse(text: &str) -> Option<Permission<'_>> {
    let mut parts = text.split(':');
    let (resource, action) = (parts.next()?, parts.next().unwrap_or("*"));
    let scope = match parts.next() {
        None | Some("*" | "all") => Scope::All,
        Some("own") => Scope::Own,
        Some("assigned") => Scope::Assigned,
        Some("public") => Scope::Public,
        Some(_) => return None,
    };
    parts.next().is_none().then_some(Permission { resource, action, scope })
}

/// The widest scope that `permissions` grant for `wanted` = `resource:action`.
pub fn granted(permissions: &[String], wanted: &str) -> Option<Scope> {
    let (resource, action) = wanted.split_once(':')?;
    permissions.iter().filter_map(|p| parse(p)).filter(|p| p.allows(resource, action)).map(|p| p.scope).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(role: Role, wanted: &str) -> Option<Scope> {
        granted(&of_roles(&[role.as_str().to_owned()]), wanted)
    }

    #[test]
    fn each_role_reaches_as_far_as_the_documents_say() {
        for (role, wanted, expected) in [
            (Role::Guest, "products:read", Some(Scope::Public)),
            (Role::Guest, "orders:create", None),
            (Role::Member, "products:read", Some(Scope::All)),
            (Role::Member, "products:create", None),
            (Role::Member, "orders:read", Some(Scope::Own)),
            (Role::Member, "orders:execute", None),
            (Role::Member, "reports:read", None),
            (Role::Member, "notifications:read", Some(Scope::Own)),
            (Role::Manager, "orders:execute", Some(Scope::All)),
            (Role::Manager, "reports:read", Some(Scope::All)),
            (Role::Manager, "reports:create", None),
            (Role::Manager, "users:update", Some(Scope::Own)),
            (Role::OrgAdmin, "users:update", Some(Scope::All)),
            (Role::OrgAdmin, "inventory:update", Some(Scope::All)),
            (Role::OrgAdmin, "payments:execute", None),
            (Role::SuperAdmin, "payments:execute", Some(Scope::All)),
        ] {
            assert_eq!(scope(role, wanted), expected, "{role} {wanted}");
        }
    }

    #[test]
    fn a_higher_role_is_never_narrower_than_a_lower_one() {
        for wanted in ["products:read", "orders:read", "orders:create", "users:read", "notifications:create"] {
            let scopes: Vec<_> = Role::ALL.into_iter().map(|role| scope(role, wanted)).collect();
            assert!(scopes.is_sorted(), "{wanted}: {scopes:?}");
        }
    }

    #[test]
    fn contained_permissions_are_left_out_and_unknown_roles_grant_nothing() {
        assert_eq!(of_roles(&["SuperAdmin".to_owned()]), ["*:*"]);
        let manager = of_roles(&["Manager".to_owned(), "Nobody".to_owned()]);
        assert!(!manager.iter().any(|p| p == "orders:read:own" || p == "products:read"), "{manager:?}");
        assert!(of_roles(&["Nobody".to_owned()]).is_empty());
    }

    #[test]
    fn write_means_create_and_update_and_a_strange_scope_grants_nothing() {
        let permissions = ["tasks:write:own".to_owned(), "tasks:read:everybody".to_owned()];
        assert_eq!(granted(&permissions, "tasks:update"), Some(Scope::Own));
        assert_eq!(granted(&permissions, "tasks:delete"), None);
        assert_eq!(granted(&permissions, "tasks:read"), None);
    }
}

//! Whose account PostgreSQL runs under, and where its files can then lie: it refuses to run as root.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::unistd::{Uid, User, geteuid};

/// Somebody who is not root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    pub uid: u32,
    pub gid: u32,
}

/// None when we are not root ourselves and need nobody else.
///
/// # Errors
/// We are root and the machine has neither `postgres` nor `nobody`.
pub fn to_drop_to() -> anyhow::Result<Option<Account>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let user = ["postgres", "nobody"].into_iter().find_map(|name| User::from_name(name).ok().flatten());
    let user =
        user.context("PostgreSQL does not run as root, and there is no user `postgres` or `nobody` to run it as")?;
    Ok(Some(Account { uid: user.uid.as_raw(), gid: user.gid.as_raw() }))
}

/// Creates `wanted` as a place for the account's files. Where the account cannot get through to it, a
/// directory of the same name every time under the system's directory for temporary files instead.
///
/// # Errors
/// A directory cannot be made or belongs to a stranger.
pub fn place(wanted: &Path, account: Option<Account>) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(wanted).with_context(|| format!("failed to create `{}`", wanted.display()))?;
    let wanted = wanted.canonicalize().with_context(|| format!("failed to resolve `{}`", wanted.display()))?;
    let Some(account) = account else { return Ok(wanted) };
    let Some(closed) = wanted.ancestors().find(|dir| !can_pass(dir, account)) else { return Ok(wanted) };
    let name = wanted.display().to_string().replace('/', "-");
    let elsewhere = std::env::temp_dir().join(format!("platform-api{name}"));
    eprintln!(
        "platform-api: PostgreSQL's user cannot get through `{}`, so its files are in `{}`",
        closed.display(),
        elsewhere.display()
    );
    match std::fs::create_dir(&elsewhere) {
        Ok(()) => std::fs::set_permissions(&elsewhere, std::fs::Permissions::from_mode(0o755))
            .with_context(|| format!("failed to open `{}`", elsewhere.display()))?,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error).with_context(|| format!("failed to create `{}`", elsewhere.display())),
    }
    let found =
        std::fs::symlink_metadata(&elsewhere).with_context(|| format!("failed to read `{}`", elsewhere.display()))?;
    // Anybody can make names in /tmp: what is not our own directory is not used.
    let ours = found.is_dir() && Uid::from_raw(found.uid()).is_root() && found.mode() & 0o022 == 0;
    anyhow::ensure!(ours, "`{}` is there and not ours: remove it or choose another --data", elsewhere.display());
    Ok(elsewhere)
}

fn can_pass(dir: &Path, account: Account) -> bool {
    let Ok(found) = std::fs::metadata(dir) else { return false };
    let bit = match () {
        () if found.uid() == account.uid => 0o100,
        () if found.gid() == account.gid => 0o010,
        () => 0o001,
    };
    found.mode() & bit != 0
}

/// Gives the path to the account, if there is one.
///
/// # Errors
/// The owner cannot be changed.
pub fn give(path: &Path, account: Option<Account>) -> anyhow::Result<()> {
    let Some(account) = account else { return Ok(()) };
    chown(path, Some(account.uid), Some(account.gid))
        .with_context(|| format!("failed to give `{}` away", path.display()))
}

//! What must survive a replaced task, in SQL: the `state:` block.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the state lives; `sqlite://DATA/state.db` when absent.
    #[serde(default)]
    pub url: Option<String>,
}

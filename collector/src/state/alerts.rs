//! Alert state by rule: what a restart must know so that `for` goes on and nobody is paged twice.

use std::collections::BTreeSet;

use sqlx::{QueryBuilder, Row, Sqlite};
use telemetry::{Labels, Timestamp};

use super::{State, StateError};

/// One pending, firing or recently resolved alert.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertRow {
    /// The rule within its group: name, labels and which of several equal ones.
    pub rule_key: String,
    /// Sixteen hex digits, Alertmanager's own fingerprint of the labels.
    pub fingerprint: String,
    /// `pending`, `firing` or `inactive`.
    pub state: String,
    pub labels: Labels,
    pub annotations: Labels,
    pub value: f64,
    pub active_at: Timestamp,
    pub fired_at: Option<Timestamp>,
    pub keep_firing_since: Option<Timestamp>,
    pub resolved_at: Option<Timestamp>,
    pub last_sent_at: Option<Timestamp>,
}

/// What is known of a rule group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupRows {
    /// Its last evaluation; None when it was never evaluated.
    pub evaluated_at: Option<Timestamp>,
    pub alerts: Vec<AlertRow>,
}

impl State {
    /// # Errors
    /// See [`StateError`].
    pub async fn load_group(&self, group: &str) -> Result<GroupRows, StateError> {
        let operation = "load alerts";
        let evaluated_at = self
            .call(
                operation,
                sqlx::query_scalar::<_, i64>("SELECT evaluated_at FROM rule_groups WHERE rule_group = ?")
                    .bind(group)
                    .fetch_optional(&self.pool),
            )
            .await?;
        let rows = self
            .call(
                operation,
                sqlx::query("SELECT * FROM alerts WHERE rule_group = ? ORDER BY rule_key, fingerprint")
                    .bind(group)
                    .fetch_all(&self.pool),
            )
            .await?;
        let alerts = rows.iter().map(|row| read(operation, row)).collect::<Result<_, _>>()?;
        Ok(GroupRows { evaluated_at: evaluated_at.map(Timestamp), alerts })
    }

    /// Makes the database say of this group exactly what `rows` says: changed rows are written, rows that
    /// are no longer there are deleted, in one transaction.
    ///
    /// # Errors
    /// See [`StateError`]; nothing has changed then.
    pub async fn save_group(
        &self,
        group: &str,
        evaluated_at: Timestamp,
        changed: &[AlertRow],
        gone: &BTreeSet<(String, String)>,
    ) -> Result<(), StateError> {
        let work = async {
            let mut transaction = self.pool.begin().await?;
            sqlx::query(
                "INSERT INTO rule_groups (rule_group, evaluated_at) VALUES (?, ?)
                 ON CONFLICT (rule_group) DO UPDATE SET evaluated_at = excluded.evaluated_at",
            )
            .bind(group)
            .bind(evaluated_at.as_millis())
            .execute(&mut *transaction)
            .await?;
            // Twelve columns: well below SQLite's 32,766 bound values.
            for rows in changed.chunks(500) {
                upsert(group, rows).build().execute(&mut *transaction).await?;
            }
            for (rule_key, fingerprint) in gone {
                sqlx::query("DELETE FROM alerts WHERE rule_key = ? AND fingerprint = ?")
                    .bind(rule_key)
                    .bind(fingerprint)
                    .execute(&mut *transaction)
                    .await?;
            }
            transaction.commit().await
        };
        self.call("save alerts", work).await
    }
}

fn upsert<'a>(group: &'a str, rows: &'a [AlertRow]) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new(
        "INSERT INTO alerts (rule_key, fingerprint, rule_group, state, labels, annotations, value, active_at, \
         fired_at, keep_firing_since, resolved_at, last_sent_at) ",
    );
    query.push_values(rows, |mut values, row| {
        values
            .push_bind(row.rule_key.clone())
            .push_bind(row.fingerprint.clone())
            .push_bind(group.to_owned())
            .push_bind(row.state.clone())
            .push_bind(json(&row.labels))
            .push_bind(json(&row.annotations))
            .push_bind(row.value.to_string())
            .push_bind(row.active_at.as_millis())
            .push_bind(row.fired_at.map(Timestamp::as_millis))
            .push_bind(row.keep_firing_since.map(Timestamp::as_millis))
            .push_bind(row.resolved_at.map(Timestamp::as_millis))
            .push_bind(row.last_sent_at.map(Timestamp::as_millis));
    });
    query.push(
        " ON CONFLICT (rule_key, fingerprint) DO UPDATE SET rule_group = excluded.rule_group, \
         state = excluded.state, labels = excluded.labels, annotations = excluded.annotations, \
         value = excluded.value, active_at = excluded.active_at, fired_at = excluded.fired_at, \
         keep_firing_since = excluded.keep_firing_since, resolved_at = excluded.resolved_at, \
         last_sent_at = excluded.last_sent_at",
    );
    query
}

fn read(operation: &'static str, row: &sqlx::sqlite::SqliteRow) -> Result<AlertRow, StateError> {
    let labels = |column: &str| {
        serde_json::from_str(row.get::<&str, _>(column)).map_err(|source| StateError::Decode { operation, source })
    };
    let time = |column: &str| row.get::<Option<i64>, _>(column).map(Timestamp);
    Ok(AlertRow {
        rule_key: row.get("rule_key"),
        fingerprint: row.get("fingerprint"),
        state: row.get("state"),
        labels: labels("labels")?,
        annotations: labels("annotations")?,
        value: row.get::<&str, _>("value").parse().unwrap_or(f64::NAN),
        active_at: Timestamp(row.get("active_at")),
        fired_at: time("fired_at"),
        keep_firing_since: time("keep_firing_since"),
        resolved_at: time("resolved_at"),
        last_sent_at: time("last_sent_at"),
    })
}

pub(super) fn json(labels: &Labels) -> String {
    serde_json::to_string(labels).expect("a map of strings always serialises")
}

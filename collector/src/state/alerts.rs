//! Alert state by rule: what a restart must know so that `for` goes on and nobody is paged twice.

use std::collections::BTreeSet;

use sqlx::{Database, Encode, QueryBuilder, Type};
use telemetry::{Labels, Timestamp};

use super::db::on;
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

/// As it is stored.
#[derive(sqlx::FromRow)]
struct Stored {
    rule_key: String,
    fingerprint: String,
    state: String,
    labels: String,
    annotations: String,
    value: String,
    active_at: i64,
    fired_at: Option<i64>,
    keep_firing_since: Option<i64>,
    resolved_at: Option<i64>,
    last_sent_at: Option<i64>,
}

impl State {
    /// # Errors
    /// See [`StateError`].
    pub async fn load_group(&self, group: &str) -> Result<GroupRows, StateError> {
        let operation = "load alerts";
        let work = async {
            on!(&self.db, pool, DB => {
                let query = sqlx::query_scalar::<DB, i64>("SELECT evaluated_at FROM rule_groups WHERE rule_group = $1");
                let evaluated_at = query.bind(group.to_owned()).fetch_optional(pool).await?;
                let query = sqlx::query_as::<DB, Stored>(
                    "SELECT rule_key, fingerprint, state, labels, annotations, value, active_at, fired_at,
                       keep_firing_since, resolved_at, last_sent_at
                     FROM alerts WHERE rule_group = $1 ORDER BY rule_key, fingerprint",
                );
                Ok((evaluated_at, query.bind(group.to_owned()).fetch_all(pool).await?))
            })
        };
        let (evaluated_at, rows) = self.call(operation, work).await?;
        let alerts = rows.into_iter().map(|row| row.read(operation)).collect::<Result<_, _>>()?;
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
            on!(&self.db, pool, DB => {
                let mut transaction = pool.begin().await?;
                sqlx::query::<DB>(
                    "INSERT INTO rule_groups (rule_group, evaluated_at) VALUES ($1, $2)
                     ON CONFLICT (rule_group) DO UPDATE SET evaluated_at = excluded.evaluated_at",
                )
                .bind(group.to_owned())
                .bind(evaluated_at.as_millis())
                .execute(&mut *transaction)
                .await?;
                // Twelve columns: well below SQLite's 32,766 bound values and Postgres' 65,535. In the order of the
                // key, so that two replicas never wait for each other in a circle.
                for rows in changed.chunks(500) {
                    upsert::<DB>(group, rows).build().execute(&mut *transaction).await?;
                }
                for (rule_key, fingerprint) in gone {
                    sqlx::query::<DB>("DELETE FROM alerts WHERE rule_key = $1 AND fingerprint = $2")
                        .bind(rule_key.clone())
                        .bind(fingerprint.clone())
                        .execute(&mut *transaction)
                        .await?;
                }
                transaction.commit().await
            })
        };
        self.call("save alerts", work).await
    }
}

fn upsert<DB>(group: &str, rows: &[AlertRow]) -> QueryBuilder<DB>
where
    DB: Database,
    for<'q> String: Encode<'q, DB> + Type<DB>,
    for<'q> i64: Encode<'q, DB> + Type<DB>,
    for<'q> Option<i64>: Encode<'q, DB> + Type<DB>,
{
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

impl Stored {
    fn read(self, operation: &'static str) -> Result<AlertRow, StateError> {
        Ok(AlertRow {
            rule_key: self.rule_key,
            fingerprint: self.fingerprint,
            state: self.state,
            labels: labels(operation, &self.labels)?,
            annotations: labels(operation, &self.annotations)?,
            value: self.value.parse().unwrap_or(f64::NAN),
            active_at: Timestamp(self.active_at),
            fired_at: self.fired_at.map(Timestamp),
            keep_firing_since: self.keep_firing_since.map(Timestamp),
            resolved_at: self.resolved_at.map(Timestamp),
            last_sent_at: self.last_sent_at.map(Timestamp),
        })
    }
}

/// A label set as it is stored.
pub(super) fn labels(operation: &'static str, json: &str) -> Result<Labels, StateError> {
    serde_json::from_str(json).map_err(|source| StateError::Decode { operation, source })
}

pub(super) fn json(labels: &Labels) -> String {
    serde_json::to_string(labels).expect("a map of strings always serialises")
}

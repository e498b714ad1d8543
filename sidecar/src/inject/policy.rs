//! What the task role must allow, and not more.

use super::value::{Style, Value, chosen, text};

/// Where a log group is: names and numbers, or `*` where the file does not say.
pub(super) struct LogGroup {
    /// In a template with `${…}` where it refers to something.
    pub(super) name: String,
    pub(super) region: Option<String>,
    pub(super) account: Option<String>,
    pub(super) cloudformation: bool,
}

impl LogGroup {
    fn streams(&self) -> Value {
        let LogGroup { name, region, account, cloudformation } = self;
        if *cloudformation {
            let place = "arn:${AWS::Partition}:logs:${AWS::Region}:${AWS::AccountId}";
            return chosen([("Fn::Sub".to_owned(), text(format!("{place}:log-group:{name}:log-stream:*")))]);
        }
        let part = |part: &Option<String>| part.clone().unwrap_or_else(|| "*".to_owned());
        text(format!("arn:aws:logs:{}:{}:log-group:{name}:log-stream:*", part(region), part(account)))
    }
}

/// Streams in one log group, and lines into them. The group itself is made by the stack: no CreateLogGroup.
pub(super) fn write_logs(group: &LogGroup) -> String {
    let map = |entries: [(&str, Value); 4]| chosen(entries.map(|(key, value)| (key.to_owned(), value)));
    let statement = map([
        ("Sid", text("SidecarLogs")),
        ("Effect", text("Allow")),
        ("Action", Value::List(vec![text("logs:CreateLogStream"), text("logs:PutLogEvents")])),
        ("Resource", group.streams()),
    ]);
    let policy =
        chosen([("Version".to_owned(), text("2012-10-17")), ("Statement".to_owned(), Value::List(vec![statement]))]);
    Style { json: true, cloudformation: false, indent: Some(2) }.bracketed(&policy, "", "\n")
}

/// The account in a role's ARN.
pub(super) fn account(role: &str) -> Option<String> {
    let account = role.strip_prefix("arn:aws:iam::")?.split(':').next()?;
    (account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit())).then(|| account.to_owned())
}

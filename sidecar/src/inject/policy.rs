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

/// What must be allowed, statement by statement; empty where it is nothing.
#[derive(Default)]
pub(super) struct Policy(Vec<Value>);

impl Policy {
    /// Streams in one log group, lines into them, and a look at what is there where an answer was lost. The group itself
    /// is made by the stack: no CreateLogGroup.
    pub(super) fn write_logs(&mut self, group: &LogGroup) {
        let actions = ["logs:CreateLogStream", "logs:PutLogEvents", "logs:GetLogEvents"];
        self.allow("SidecarLogs", &actions, group.streams());
    }

    /// What an address of AWS that somebody gave the sidecar asks for; by what stands in the variable.
    pub(super) fn send_to(&mut self, variable: &str) {
        let workspace = |text: &str| {
            let region = text.split("aps-workspaces.").nth(1)?.split('.').next()?;
            let id = text.split("/workspaces/").nth(1)?.split('/').next()?;
            Some(format!("arn:aws:aps:{region}:*:workspace/{id}"))
        };
        let all = || text("*");
        if variable.contains("SIDECAR_REMOTE_WRITE_URL") && variable.contains("aps-workspaces.") {
            let place = workspace(variable).map_or_else(all, text);
            self.allow("SidecarRemoteWrite", &["aps:RemoteWrite"], place);
        }
        // These two know no resource.
        if variable.contains("://xray.") {
            self.allow("SidecarTraces", &["xray:PutTraceSegments", "xray:PutTelemetryRecords"], all());
        }
        if variable.contains("://monitoring.") {
            self.allow("SidecarMetrics", &["cloudwatch:PutMetricData"], all());
        }
    }

    fn allow(&mut self, name: &str, actions: &[&str], resource: Value) {
        let entries = [
            ("Sid", text(name)),
            ("Effect", text("Allow")),
            ("Action", Value::List(actions.iter().map(|action| text(*action)).collect())),
            ("Resource", resource),
        ];
        self.0.push(chosen(entries.map(|(key, value)| (key.to_owned(), value))));
    }

    /// As JSON.
    pub(super) fn document(self) -> Option<String> {
        let statements = Some(self.0).filter(|statements| !statements.is_empty())?;
        let policy =
            chosen([("Version".to_owned(), text("2012-10-17")), ("Statement".to_owned(), Value::List(statements))]);
        Some(Style { json: true, cloudformation: false, indent: Some(2) }.bracketed(&policy, "", "\n"))
    }
}

/// The account in a role's ARN.
pub(super) fn account(role: &str) -> Option<String> {
    let account = role.strip_prefix("arn:aws:iam::")?.split(':').next()?;
    (account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit())).then(|| account.to_owned())
}

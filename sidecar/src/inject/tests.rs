//! Files of every layout: what is not the sidecar's keeps every byte.

use proptest::prelude::*;

use super::*;

/// How a generated file is laid out.
#[derive(Clone, Debug)]
struct Layout {
    json: bool,
    cloudformation: bool,
    /// Of JSON.
    pretty: bool,
    indent: usize,
    /// Of YAML: lists begin where their key begins.
    flush: bool,
    flow_containers: bool,
    comments: bool,
    crlf: bool,
    last_newline: bool,
    firelens: bool,
    containers: Vec<Shape>,
    containers_last: bool,
    cpu: &'static str,
}

/// What a generated container has, in the order in which it has it.
#[derive(Clone, Debug)]
struct Shape {
    fields: Vec<&'static str>,
    environment: usize,
}

fn shape() -> impl Strategy<Value = Shape> {
    let all = vec!["portMappings", "environment", "dependsOn", "logConfiguration", "cpu", "command"];
    let fields = proptest::sample::subsequence(all, 0..=6).prop_shuffle();
    (fields, 0..3usize).prop_map(|(fields, environment)| Shape { fields, environment })
}

fn layout() -> impl Strategy<Value = Layout> {
    let flags = proptest::array::uniform10(any::<bool>());
    let cpu = proptest::sample::select(vec!["256", "512", "1024"]);
    (flags, 1..5usize, proptest::collection::vec(shape(), 1..4), cpu).prop_map(|(flags, indent, containers, cpu)| {
        let [
            json,
            cloudformation,
            pretty,
            flush,
            flow_containers,
            comments,
            crlf,
            last_newline,
            firelens,
            containers_last,
        ] = flags;
        Layout {
            json,
            cloudformation,
            pretty,
            indent,
            flush,
            flow_containers,
            comments,
            crlf,
            last_newline,
            firelens,
            containers,
            containers_last,
            cpu,
        }
    })
}

impl Layout {
    fn text(&self) -> String {
        let text = if self.json { self.json() } else { self.yaml() };
        let text = if self.last_newline { text + "\n" } else { text };
        if self.crlf { text.replace('\n', "\r\n") } else { text }
    }

    fn key(&self, name: &str) -> String {
        value::Style { json: false, cloudformation: self.cloudformation, indent: None }.field(name)
    }

    fn memory(&self) -> &'static str {
        match self.cpu {
            "256" => "512",
            "512" => "1024",
            _ => "2048",
        }
    }

    /// A field of a container in braces.
    fn field(&self, field: &str, shape: &Shape) -> String {
        let (k, q) = (|name: &str| self.key(name), if self.json { "\"" } else { "'" });
        let key = |name: &str| if self.json { format!("\"{}\"", k(name)) } else { k(name) };
        let pair = |name: &str, value: &str| format!("{}: {q}{value}{q}", key(name));
        match field {
            "portMappings" => format!("[{{{}: 8080}}]", key("containerPort")),
            "environment" => {
                let one =
                    |n: usize| format!("{{{}, {}}}", pair("name", &format!("V{n}")), pair("value", "{a: [b], #c"));
                format!("[{}]", (0..shape.environment).map(one).collect::<Vec<_>>().join(", "))
            }
            "dependsOn" => "[]".to_owned(),
            "logConfiguration" => {
                let option = |name: &str| format!("{q}{name}{q}: {q}x{q}");
                let options = [option("awslogs-group"), option("awslogs-region")].join(", ");
                format!("{{{}, {}: {{{options}}}}}", pair("logDriver", "awslogs"), key("options"))
            }
            "cpu" => "128".to_owned(),
            _ => format!("[{q}run{q}, {q}--x=- y{q}]"),
        }
    }

    fn json(&self) -> String {
        let containers: Vec<String> = self
            .containers
            .iter()
            .enumerate()
            .map(|(n, shape)| {
                let mut fields = vec![format!("\"{}\": \"c{n}\"", self.key("name"))];
                fields.extend(shape.fields.iter().map(|f| format!("\"{}\": {}", self.key(f), self.field(f, shape))));
                format!("{{{}}}", fields.join(", "))
            })
            .collect();
        let mut parts = vec![
            format!("\"{}\": \"{}\"", self.key("cpu"), self.cpu),
            format!("\"{}\": \"{}\"", self.key("memory"), self.memory()),
        ];
        let list = format!("\"{}\": [{}]", self.key("containerDefinitions"), containers.join(", "));
        parts.insert(if self.containers_last { 2 } else { 0 }, list);
        let task = format!("{{{}}}", parts.join(", "));
        let text = match self.cloudformation {
            true => format!(
                "{{\"Resources\": {{\"T\": {{\"Type\": \"AWS::ECS::TaskDefinition\", \"Properties\": {task}}}}}}}"
            ),
            false => task,
        };
        if !self.pretty {
            return text;
        }
        let value: serde_json::Value = serde_json::from_str(&text).expect("generated JSON");
        let indent = " ".repeat(self.indent);
        let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
        let mut out = Vec::new();
        serde::Serialize::serialize(&value, &mut serde_json::Serializer::with_formatter(&mut out, formatter))
            .expect("JSON");
        String::from_utf8(out).expect("UTF-8")
    }

    fn yaml(&self) -> String {
        let step = self.indent + 1;
        let base = if self.cloudformation { 3 * step } else { 0 };
        let (pad, comment) = (" ".repeat(base), if self.comments { "  # it's - a: [comment" } else { "" });
        let dash = if self.flush { base } else { base + step };
        let mut containers = format!("{pad}{}:{comment}", self.key("containerDefinitions"));
        for (n, shape) in self.containers.iter().enumerate() {
            if self.comments {
                containers += &format!("\n{}# - before {n}", " ".repeat(dash));
            }
            let name = format!("{}: c{n}", self.key("name"));
            if self.flow_containers {
                let fields = shape.fields.iter().map(|f| format!(", {}: {}", self.key(f), self.field(f, shape)));
                containers += &format!("\n{}- {{{name}{}}}{comment}", " ".repeat(dash), fields.collect::<String>());
                continue;
            }
            containers += &format!("\n{}- {name}{comment}", " ".repeat(dash));
            for field in &shape.fields {
                let inner = " ".repeat(dash + 2);
                if *field == "environment" && shape.environment > 0 && !self.pretty {
                    containers += &format!("\n{inner}{}:", self.key(field));
                    for n in 0..shape.environment {
                        let (name, value) = (self.key("name"), self.key("value"));
                        containers +=
                            &format!("\n{inner}- {name}: V{n}\n{inner}  {value}: |\n{inner}    a - b\n{inner}    c");
                    }
                } else if *field == "logConfiguration" && !self.pretty {
                    let (driver, options) = (self.key("logDriver"), self.key("options"));
                    containers += &format!(
                        "\n{inner}{}:\n{inner}  {driver}: awslogs{comment}\n{inner}  {options}:\n{inner}      awslogs-group: x\n{inner}      awslogs-region: x{comment}",
                        self.key(field)
                    );
                } else {
                    containers += &format!("\n{inner}{}: {}{comment}", self.key(field), self.field(field, shape));
                }
            }
        }
        let mut parts = vec![
            format!("{pad}{}: '{}'{comment}", self.key("cpu"), self.cpu),
            format!("{pad}{}: {}", self.key("memory"), self.memory()),
        ];
        parts.insert(if self.containers_last { 2 } else { 0 }, containers);
        let head = match self.cloudformation {
            true => {
                let pads = [1, 2].map(|n| " ".repeat(n * step));
                format!("Resources:\n{0}T:\n{1}Type: AWS::ECS::TaskDefinition\n{1}Properties:\n", pads[0], pads[1])
            }
            false => String::new(),
        };
        format!("{head}{}", parts.join("\n"))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_layout_can_be_joined_twice_and_taken_back(layout in layout()) {
        let text = layout.text();
        let options = Options {
            service: Some("order: it's #1".to_owned()),
            app: Some("c0".to_owned()),
            logs: layout.firelens.then_some(Logs::Firelens),
            log_group: Some("/app/order".to_owned()),
            ..Options::default()
        };
        let joined = inject(&text, &options).unwrap_or_else(|fault| panic!("{fault} at {:?} in\n{text}", fault.position(&text))).text;
        prop_assert_eq!(&inject(&joined, &options).expect("joined").text, &joined);
        prop_assert_eq!(&remove(&joined, &Options::default()).expect("joined"), &text);
        // Another reader finds what it should.
        let value: serde_json::Value = match layout.json {
            true => serde_json::from_str(&joined).unwrap_or_else(|error| panic!("{error} in\n{joined}")),
            false => serde_saphyr::from_str(&joined).unwrap_or_else(|error| panic!("{error} in\n{joined}")),
        };
        let task = if layout.cloudformation { &value["Resources"]["T"]["Properties"] } else { &value };
        let containers = task[layout.key("containerDefinitions")].as_array().expect("a list");
        prop_assert_eq!(containers.len(), layout.containers.len() + 1);
        let sidecar = containers.last().expect("not empty");
        prop_assert_eq!(&sidecar[layout.key("name")], "sidecar");
        let variables = sidecar[layout.key("environment")].as_array().expect("a list");
        prop_assert!(variables.iter().any(|v| v[layout.key("value")] == "order: it's #1"), "{}", joined);
        for (container, shape) in containers.iter().zip(&layout.containers) {
            let on = container[layout.key("dependsOn")].as_array().expect("a list");
            prop_assert_eq!(on.len(), 1);
            if shape.fields.contains(&"environment") && shape.environment > 0 {
                prop_assert_eq!(&container[layout.key("environment")][0][layout.key("name")], "V0");
            }
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "(?s)[-a: {}\\[\\]\"'\n#&*!|,é]{0,60}") {
        drop(inject(&text, &Options::default()));
        drop(remove(&text, &Options::default()));
        let within = format!("containerDefinitions:\n- name: app\n  environment: {text}");
        drop(inject(&within, &Options::default()));
    }
}

//! The joining of task definitions: text from outside is edited in place.

use sidecar::inject::{Logs, Options, inject, remove};

use super::Target;

pub(super) const TARGETS: &[Target] = &[Target {
    name: "sidecar_inject",
    run: twice_is_once_and_back,
    seeds: &[
        b"containerDefinitions:\n- name: app\n  image: a\n  environment: []\n",
        b"{\"cpu\":\"256\",\"memory\":\"512\",\"containerDefinitions\":[{\"name\":\"app\",\"cpu\":256,\"logConfiguration\":{\"logDriver\":\"awslogs\",\"options\":{\"awslogs-group\":\"g\",\"awslogs-region\":\"r\"}}}]}",
        b"Resources:\n  T:\n    Type: AWS::ECS::TaskDefinition\n    Properties:\n      Cpu: !Ref C # c\n      ContainerDefinitions:\n        - {Name: a, PortMappings: [{ContainerPort: !Ref P}]}\n",
    ],
}];

fn twice_is_once_and_back(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for logs in [Logs::Keep, Logs::Firelens] {
        let options = Options { logs: Some(logs), log_group: Some("/g".to_owned()), ..Options::default() };
        drop(remove(text, &options));
        let Ok(joined) = inject(text, &options) else { continue };
        let again = inject(&joined.text, &options).expect("what was joined can be joined");
        // A text that had a sidecar already is only brought up to date.
        if !text.contains("picket.inject") {
            assert_eq!(again.text, joined.text, "twice is not once");
            assert_eq!(remove(&joined.text, &options).expect("what was joined can be taken apart"), text);
        }
    }
}

use aws_sdk_cloudwatch::operation::put_dashboard::PutDashboardError;

use crate::setup::{self, sleepers};

const TEXT: &str =
    r##"{"widgets":[{"type":"text","x":0,"y":0,"width":24,"height":2,"properties":{"markdown":"# x"}}]}"##;

#[tokio::test(flavor = "multi_thread")]
async fn dashboards_are_stored_listed_in_pages_and_deleted() {
    let setup = setup::start(&format!("page_size_max: 2\n{}", sleepers("127.30", &[]))).await;
    let client = setup.cloudwatch();
    for name in ["dev-a", "dev-b", "dev-c", "prod-a"] {
        let put = client.put_dashboard().dashboard_name(name).dashboard_body(TEXT).send().await.unwrap();
        assert!(put.dashboard_validation_messages().is_empty());
    }
    let first = client.list_dashboards().dashboard_name_prefix("dev-").send().await.unwrap();
    let names: Vec<_> = first.dashboard_entries().iter().filter_map(|e| e.dashboard_name()).collect();
    assert_eq!(names, ["dev-a", "dev-b"]);
    assert_eq!(first.dashboard_entries()[0].size(), Some(TEXT.len() as i64));
    assert!(first.dashboard_entries()[0].last_modified().is_some());
    let token = first.next_token().unwrap();
    let second = client.list_dashboards().dashboard_name_prefix("dev-").next_token(token).send().await.unwrap();
    assert_eq!((second.dashboard_entries().len(), second.next_token()), (1, None));

    let got = client.get_dashboard().dashboard_name("dev-a").send().await.unwrap();
    assert_eq!(got.dashboard_body(), Some(TEXT));
    client.delete_dashboards().dashboard_names("dev-a").send().await.unwrap();
    let gone = client.get_dashboard().dashboard_name("dev-a").send().await.unwrap_err().into_service_error();
    assert!(gone.is_dashboard_not_found_error(), "{gone:?}");
    assert_eq!(gone.meta().code(), Some("ResourceNotFound"));
    setup.aws.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_body_is_refused_with_a_path_and_a_message_for_each_fault() {
    let setup = setup::start(&sleepers("127.31", &[])).await;
    let client = setup.cloudwatch();
    let body = TEXT.replace("24", "99").replace("\"text\"", "\"metric\"");
    let error = client.put_dashboard().dashboard_name("x").dashboard_body(body).send().await.unwrap_err();
    let PutDashboardError::DashboardInvalidInputError(error) = error.into_service_error() else {
        panic!("another error");
    };
    let paths: Vec<_> = error.dashboard_validation_messages().iter().filter_map(|m| m.data_path()).collect();
    assert_eq!(paths, ["/widgets/0/width", "/widgets/0/properties", "/widgets/0/properties"]);
    let name = client.put_dashboard().dashboard_name("a b").dashboard_body(TEXT).send().await.unwrap_err();
    assert!(name.into_service_error().is_dashboard_invalid_input_error());
    let warned = TEXT.replace("\"width\"", "\"colour\":\"red\",\"width\"");
    let put = client.put_dashboard().dashboard_name("x").dashboard_body(warned).send().await.unwrap();
    assert_eq!(put.dashboard_validation_messages()[0].data_path(), Some("/widgets/0"));
    setup.aws.stop().await.unwrap();
}

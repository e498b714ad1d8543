use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{Dimension, Metric, MetricDataQuery, MetricDatum, MetricStat};

use crate::setup::{self, sleepers};

fn dimension(name: &str, value: &str) -> Dimension {
    Dimension::builder().name(name).value(value).build()
}

#[tokio::test(flavor = "multi_thread")]
async fn data_are_stored_listed_and_summed_and_a_large_request_comes_packed() {
    let setup = setup::start(&sleepers("127.32", &[])).await;
    let client = setup.cloudwatch();
    // A thousand data are beyond the SDK's threshold of 10 KiB: the body arrives as gzip.
    let datum = |n: u32| {
        let service = dimension("service", "order");
        MetricDatum::builder().metric_name("requests").dimensions(service).value(f64::from(n % 4)).build()
    };
    let put = client.put_metric_data().namespace("Picket").set_metric_data(Some((0..1000).map(datum).collect()));
    put.send().await.unwrap();
    let list = client.list_metrics().namespace("Picket").send().await.unwrap();
    assert_eq!(list.metrics().len(), 1);
    assert_eq!(list.metrics()[0].dimensions()[0].value(), Some("order"));

    let metric =
        Metric::builder().namespace("Picket").metric_name("requests").dimensions(dimension("service", "order"));
    let query = |id: &str, stat: &str| {
        let stat = MetricStat::builder().metric(metric.clone().build()).period(86_400).stat(stat).build();
        MetricDataQuery::builder().id(id).metric_stat(stat).build()
    };
    let now = std::time::SystemTime::now();
    let hour = std::time::Duration::from_secs(3600);
    let get = client.get_metric_data().start_time(DateTime::from(now - hour)).end_time(DateTime::from(now + hour));
    let get = get.metric_data_queries(query("a", "Average")).metric_data_queries(query("m", "Maximum"));
    let results = get.send().await.unwrap().metric_data_results.unwrap();
    assert_eq!((results[0].values(), results[1].values()), (&[1.5][..], &[3.0][..]));
    assert_eq!(results[0].timestamps().len(), 1);
    setup.aws.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_putmetricdata_refuses_is_refused() {
    let setup = setup::start(&sleepers("127.33", &[])).await;
    let client = setup.cloudwatch();
    let good = || MetricDatum::builder().metric_name("m").value(1.0);
    let ages_ago = DateTime::from_secs(1_000_000_000);
    let many = (0..31).map(|n| dimension(&format!("d{n}"), "x")).collect();
    for (what, namespace, data) in [
        ("reserved namespace", "AWS/ECS", vec![good().build()]),
        ("nothing", "Picket", vec![]),
        ("too many", "Picket", vec![good().build(); 1001]),
        ("not a number", "Picket", vec![good().value(f64::NAN).build()]),
        ("too old", "Picket", vec![good().timestamp(ages_ago).build()]),
        ("too many dimensions", "Picket", vec![good().set_dimensions(Some(many)).build()]),
        (
            "one dimension twice",
            "Picket",
            vec![good().dimensions(dimension("a", "1")).dimensions(dimension("a", "2")).build()],
        ),
        ("resolution", "Picket", vec![good().storage_resolution(7).build()]),
    ] {
        let put = client.put_metric_data().namespace(namespace).set_metric_data(Some(data)).send().await;
        assert!(put.is_err(), "{what}");
    }
    assert!(client.list_metrics().send().await.unwrap().metrics().is_empty());
    setup.aws.stop().await.unwrap();
}

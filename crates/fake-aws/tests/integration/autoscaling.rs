use aws_sdk_applicationautoscaling::types::{ScalableDimension, ScalableTargetAction, ServiceNamespace};

use crate::setup::{self, running, sleepers};

const ORDER: &str = "service/demo/order";

#[tokio::test(flavor = "multi_thread")]
async fn bounds_pull_the_desired_count_and_a_scheduled_action_runs_at_its_time() {
    let setup = setup::start(&sleepers("127.20", &[("order", 1)])).await;
    let client = setup.autoscaling();
    let register = |min, max| {
        client
            .register_scalable_target()
            .service_namespace(ServiceNamespace::Ecs)
            .resource_id(ORDER)
            .scalable_dimension(ScalableDimension::EcsServiceDesiredCount)
            .set_min_capacity(min)
            .set_max_capacity(max)
    };
    register(Some(2), Some(4)).send().await.unwrap();
    setup.until("raised to the minimum", |t| running(t, "order") == 2).await;
    let refused = register(Some(5), None).send().await.unwrap_err().into_service_error();
    assert!(refused.is_validation_exception(), "minimum above maximum: {refused:?}");
    register(Some(0), Some(1)).send().await.unwrap();
    setup.until("lowered to the maximum", |t| running(t, "order") == 1).await;

    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(1);
    let put = client
        .put_scheduled_action()
        .service_namespace(ServiceNamespace::Ecs)
        .resource_id(ORDER)
        .scalable_dimension(ScalableDimension::EcsServiceDesiredCount)
        .scheduled_action_name("morning")
        .schedule(format!("at({})", soon.strftime("%Y-%m-%dT%H:%M:%S")))
        .scalable_target_action(ScalableTargetAction::builder().min_capacity(3).max_capacity(6).build());
    put.send().await.unwrap();
    setup.until("the scheduled action ran", |t| running(t, "order") == 3).await;

    let targets = client.describe_scalable_targets().service_namespace(ServiceNamespace::Ecs).send().await.unwrap();
    let target = &targets.scalable_targets()[0];
    assert_eq!((target.min_capacity(), target.max_capacity()), (3, 6));
    let activities = client
        .describe_scaling_activities()
        .service_namespace(ServiceNamespace::Ecs)
        .resource_id(ORDER)
        .send()
        .await
        .unwrap();
    assert_eq!(activities.scaling_activities().len(), 3);
    assert_eq!(activities.scaling_activities()[0].description(), "Setting desired count to 3.");
    setup.aws.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_aws_refuses_is_refused() {
    let setup = setup::start(&sleepers("127.21", &[("order", 0)])).await;
    let client = setup.autoscaling();
    let put = |name: &str| {
        client
            .put_scheduled_action()
            .service_namespace(ServiceNamespace::Ecs)
            .resource_id(ORDER)
            .scalable_dimension(ScalableDimension::EcsServiceDesiredCount)
            .scheduled_action_name(name)
            .schedule("cron(0 7 ? * MON-FRI *)")
            .timezone("Europe/Paris")
            .scalable_target_action(ScalableTargetAction::builder().min_capacity(1).build())
    };
    let missing = put("morning").send().await.unwrap_err().into_service_error();
    assert!(missing.is_object_not_found_exception(), "{missing:?}");
    let register = |resource: &str| {
        client
            .register_scalable_target()
            .service_namespace(ServiceNamespace::Ecs)
            .resource_id(resource)
            .scalable_dimension(ScalableDimension::EcsServiceDesiredCount)
            .min_capacity(0)
            .max_capacity(2)
    };
    let unknown = register("service/demo/nothing").send().await.unwrap_err().into_service_error();
    assert!(unknown.is_validation_exception(), "{unknown:?}");
    register(ORDER).send().await.unwrap();
    assert!(put("a:b").send().await.unwrap_err().into_service_error().is_validation_exception());
    assert!(put("x").timezone("Mars/Base").send().await.unwrap_err().into_service_error().is_validation_exception());
    put("morning").send().await.unwrap();
    let actions = client.describe_scheduled_actions().service_namespace(ServiceNamespace::Ecs).send().await.unwrap();
    assert_eq!(actions.scheduled_actions()[0].timezone(), Some("Europe/Paris"));

    let deregister = client
        .deregister_scalable_target()
        .service_namespace(ServiceNamespace::Ecs)
        .resource_id(ORDER)
        .scalable_dimension(ScalableDimension::EcsServiceDesiredCount);
    deregister.send().await.unwrap();
    let actions = client.describe_scheduled_actions().service_namespace(ServiceNamespace::Ecs).send().await.unwrap();
    assert!(actions.scheduled_actions().is_empty(), "actions go with their target");
    setup.aws.stop().await.unwrap();
}

//! A daemon that is not ready before it is warm.

use super::*;
use cachewarden::Warden;
use cachewarden::config::Config;
use futures_util::FutureExt;

async fn launched(world: &World) -> InProcess {
    let config = Config::from_toml(&world.config()).unwrap();
    let warden = Warden::launch(config).await.unwrap();
    InProcess { warden }
}

fn is_ready(daemon: &InProcess) -> bool {
    daemon.warden.ready().now_or_never().is_some()
}

async fn until_running(daemon: &InProcess) {
    eventually(DEADLINE, async || {
        let reports = daemon.warden.warming().await.unwrap();
        match &reports[0].running {
            Some(_) => Ok(()),
            None => Err(reports),
        }
    })
    .await;
}

#[tokio::test]
async fn it_is_not_ready_while_its_first_run_goes_on() {
    let slow = course("ready_after_warm = true\nrate = 20");
    let world = World::start(COURSES, &slow).await;
    let daemon = launched(&world).await;
    until_running(&daemon).await;
    assert!(!is_ready(&daemon));
    let mut client = daemon.client().await;
    assert_eq!(
        client.command(&["GET", "courses:100"]).await.text(),
        "\"course 100\""
    );
    daemon.warden.ready().await;
    assert_eq!(cached(&mut world.raw().await).await, 100);
    daemon.stop().await;
}

#[tokio::test]
async fn one_that_cannot_be_warmed_is_ready_all_the_same() {
    let sections = course("ready_after_warm = true")
        .replace("SELECT id FROM courses", "SELECT 1 / (id - 1) FROM courses");
    let world = World::start(COURSES, &sections).await;
    let daemon = world.daemon().await;
    let reports = daemon.warden.warming().await.unwrap();
    let (outcome, why, _) = reports[0].last.as_ref().expect("a run");
    assert_eq!(*why, "start");
    let error = outcome.error.as_deref().unwrap();
    assert!(error.contains("division by zero"), "{error}");
    daemon.stop().await;
}

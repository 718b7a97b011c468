//! Passwords that are guessed: ever more slowly, and at nobody else's cost.

use std::time::{Duration, Instant};

use super::super::support::daemon::{InProcess, config_without_postgres};
use super::super::support::resp::{Client, Value};
use super::super::support::servers::redis;

async fn guess(client: &mut Client) {
    let refusal = client.command(&["AUTH", "open sesam"]).await;
    assert!(refusal.error().starts_with("WRONGPASS "), "{refusal:?}");
}

async fn log_in(client: &mut Client) {
    let let_in = client.command(&["AUTH", "open sesame"]).await;
    assert_eq!(let_in, Value::Simple("OK".into()));
    assert_eq!(client.command(&["PING"]).await.text(), "PONG");
}

#[tokio::test]
async fn every_wrong_guess_is_answered_later_than_the_one_before_and_the_right_one_at_once() {
    let redis = redis();
    let text = config_without_postgres(&redis.redis_url(), "resp.password = \"open sesame\"");
    let daemon = InProcess::start(&text).await;
    let mut guesser = daemon.client().await;
    for guesses in 0..7 {
        let began = Instant::now();
        // Another connection is no fresh start: it is the address that guesses.
        if guesses == 5 {
            guesser = daemon.client().await;
        }
        guess(&mut guesser).await;
        let least = Duration::from_millis(10 << guesses);
        assert!(began.elapsed() >= least, "{guesses}: {:?}", began.elapsed());
    }
    // Over a second by now. Meanwhile somebody else with the password comes and goes.
    tokio::select! {
        biased;
        () = guess(&mut guesser) => panic!("the guess is answered before the password"),
        () = async { log_in(&mut daemon.client().await).await } => {}
    }
    daemon.stop().await;
}

#[tokio::test]
async fn no_guess_is_held_back_for_ever_and_who_guessed_gets_in_with_the_password() {
    let redis = redis();
    let text = config_without_postgres(&redis.redis_url(), "resp.password = \"open sesame\"");
    let daemon = InProcess::start(&text).await;
    let mut inside = daemon.client().await;
    log_in(&mut inside).await;
    // Doubled without end, the last answer would come after almost three minutes.
    let mut guessers = tokio::task::JoinSet::new();
    for _ in 0..15 {
        let mut guesser = daemon.client().await;
        guessers.spawn(async move {
            guess(&mut guesser).await;
            guesser
        });
    }
    assert_eq!(inside.command(&["PING"]).await.text(), "PONG");
    for mut guesser in guessers.join_all().await {
        log_in(&mut guesser).await;
    }
    daemon.stop().await;
}

//! Calls while the query of the free space does not return: the only thread of the blocking pool is blocked, so
//! that only a deadline or a cancellation can end a call.

use super::*;

/// Runs a test with a store while the only thread of the blocking pool is blocked.
fn while_blocked<F: Future<Output = ()>>(test: impl FnOnce(Fixture) -> F) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.max_blocking_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let fixture = Fixture::new().await;
        fixture.upload("a/b", "c").await.unwrap();
        let (go_on, wait) = mpsc::channel::<()>();
        drop(tokio::task::spawn_blocking(move || wait.recv_timeout(SOON).ok()));
        test(fixture).await;
        drop(go_on);
    });
}

#[test]
fn an_upload_waits_no_longer_than_its_deadline() {
    while_blocked(|fixture| async move {
        let call = &Call::system().within(Some(Duration::from_millis(50)));
        let upload = fixture.store.upload(UploadSpec::new(path("d")), call).await;
        assert_eq!(upload.unwrap_err().kind(), Kind::Timeout);
    });
}

#[test]
fn a_copy_can_be_cancelled() {
    while_blocked(|fixture| async move {
        let skipping = SkipFiles::new(&["e"]).unwrap();
        for skip_files in [SkipFiles::default(), skipping] {
            let asked = CopyRequest { skip_files, ..request("a", "d") };
            let (store, id) = (fixture.store.clone(), asked.id);
            let copy = tokio::spawn(async move {
                finish(store.copy(asked, false, &Call::system()).await?).await
            });
            until("it runs", async || fixture.store.0.runs.has(id)).await;
            let why = Error::new(Kind::Cancelled, "cancelled by a test");
            // The result of cancelling a copy that has not begun is tested elsewhere.
            fixture.store.cancel(id, why, &Call::system().within(Some(SOON))).await.ok();
            assert_eq!(copy.await.unwrap().unwrap_err().kind(), Kind::Cancelled);
        }
    });
}

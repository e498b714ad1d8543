//! x
pub async fn run(_args: crate::cli::LoadgenArgs) -> anyhow::Result<()> { Ok(()) }

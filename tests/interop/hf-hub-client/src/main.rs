//! Reads a model by the hf-hub crate, as candle, mistral.rs and text-generation-inference do: with
//! HF_ENDPOINT set, one file after the other (`sync`) and by parallel ranges (`tokio`).
//!
//!     hf-hub-client ENDPOINT REPO FOLDER
//!
//! prints the commit, and the path of each file below FOLDER/sync and FOLDER/tokio.

use hf_hub::api::{sync, tokio as parallel};
use std::{env, error::Error, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = env::args().skip(1).collect();
    let [endpoint, repo, folder] = words.as_slice() else {
        return Err("three words are needed: ENDPOINT REPO FOLDER".into());
    };
    env::set_var("HF_ENDPOINT", endpoint);
    let folder = PathBuf::from(folder);

    let cache = folder.join("sync");
    let model = sync::ApiBuilder::from_env()
        .with_progress(false)
        .with_cache_dir(cache)
        .build()?
        .model(repo.clone());
    let info = model.info()?;
    println!("sha {}", info.sha);
    for file in &info.siblings {
        println!(
            "sync {} {}",
            file.rfilename,
            model.get(&file.rfilename)?.display()
        );
    }
    println!("missing {}", model.get("none.json").is_err());

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let model = parallel::ApiBuilder::from_env()
            .high()
            .with_progress(false)
            .with_cache_dir(folder.join("tokio"))
            .build()?
            .model(repo.clone());
        for file in model.info().await?.siblings {
            let path = model.get(&file.rfilename).await?;
            println!("tokio {} {}", file.rfilename, path.display());
        }
        Ok(())
    })
}

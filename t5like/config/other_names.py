"""Names that other projects have for what a config says: those of Hugging Face's scripts and configs, of T5X's gin, of
nanoT5 and of MaxText. An answer that begins with -- is the flag here and a remark; any other is a sentence."""

_ANSWERS = {
    # The run
    "--train.directory": "output_dir model_dir MODEL_DIR base_output_directory run_name working_dir logging_dir",
    "--train.steps": "max_steps train_steps total_steps max_train_steps TRAIN_STEPS",
    "--train.epochs, in place of --train.steps": "num_train_epochs num_epochs",
    "--train.best, a figure of the evaluation": "metric_for_best_model load_best_model_at_end greater_is_better "
    "keep_best_checkpoints",
    "--train.patience, with --train.best": "early_stopping_patience early_stopping patience",
    "--train.ema": "ema_decay use_ema ema_rate",
    "--train.label_smoothing": "label_smoothing LABEL_SMOOTHING label_smoothing_factor",
    "--train.batch, the rows of a step over all devices": (
        "per_device_train_batch_size per_device_batch_size train_batch_size batch_size BATCH_SIZE global_batch_size"
    ),
    "--train.accumulate, the parts that --train.batch is computed in": (
        "gradient_accumulation_steps gradient_accumulation grad_acc num_microbatches"
    ),
    "--train.log_every": "logging_steps log_period logging.every_steps stats_period",
    "--train.save_every": "save_steps checkpoint_period CHECKPOINT_PERIOD checkpoint.every_steps save_strategy "
    "SaveCheckpointConfig.period enable_checkpointing async_checkpointing",
    "--train.keep": "save_total_limit max_to_keep",
    "--train.seed for parameters and dropout, --data.seed for the data": "seed random_seed RANDOM_SEED",
    "--train.seed": "init_weights_seed",
    "--train.tensorboard; metrics.jsonl in the run directory has all figures": "report_to enable_tensorboard wandb "
    "neptune wandb_project",
    "--train.profile_steps, the first and the last step": "profiler profiler_steps skip_first_n_steps_for_profiler",
    "--train.init_from RUN, a run that `t5like import FOLDER RUN` makes of a checkpoint; --architecture NAME takes a "
    "published size": "model_name_or_path from_pretrained initial_checkpoint_path INITIAL_CHECKPOINT_PATH "
    "checkpoint_path model.checkpoint_path load_parameters_path restore_checkpoint",
    "the same command goes on from the newest checkpoint, and `t5like branch RUN --at STEP` from another": (
        "resume_from_checkpoint load_full_state_path resume"
    ),
    "a run directory is never overwritten: choose another --train.directory, or leave it out to go on there": (
        "overwrite_output_dir"
    ),
    "`t5like train` trains, and evaluates every --eval.every steps; `t5like eval` evaluates alone": (
        "do_train do_eval do_predict mode"
    ),
    "nothing is uploaded: `t5like export RUN FOLDER` writes a folder that can be": (
        "push_to_hub hub_model_id hub_token hub_strategy hub_private_repo use_auth_token token"
    ),
    "the loss is the mean over real target tokens: leave it out": "loss_normalizing_factor LOSS_NORMALIZING_FACTOR",
    "--train.z_loss": "Z_LOSS",
    "JAX takes the accelerators that are there, and JAX_PLATFORMS=cpu the CPU: leave it out": (
        "device num_gpus num_cpus local_rank no_cuda use_cpu hardware"
    ),
    "every step is compiled: leave it out": "compile torch_compile jit_mode_eval model.compile",
    "a preset is a Python file: `t5like configs` lists those of the package": (
        "gin_file gin_bindings gin_search_paths gin base_config config_path"
    ),
    # Evaluation
    "--eval.every": "eval_period EVAL_PERIOD eval_interval evaluation_strategy eval_strategy eval.every_steps",
    "--eval.every, the steps between evaluations; --eval.rows are the rows of one": "eval_steps",
    "--eval.rows, rows of an evaluation and not batches": "EVAL_STEPS eval.steps num_eval_examples max_eval_samples",
    "--eval.batch, the rows over all devices": "per_device_eval_batch_size eval_batch_size",
    # Optimizer
    "--optimizer.name": "optim optimizer OPTIMIZER opt_type",
    "--optimizer.name adafactor, which is the default": "adafactor",
    "--optimizer.name adamw": "adam adamw",
    "--optimizer.learning_rate": "lr base_lr base_learning_rate peak_lr LEARNING_RATE",
    "--optimizer.schedule": "lr_scheduler lr_scheduler_type learning_rate_schedule factors lr_schedule",
    "--optimizer.warmup": "warmup_steps num_warmup_steps WARMUP_STEPS",
    "--optimizer.warmup, in steps": "warmup_ratio warmup_steps_fraction",
    "--optimizer.schedule_steps": "learning_rate_schedule_steps lr_decay_steps",
    "--optimizer.final, a share of the peak": "final_cosine cosine_learning_rate_final_fraction min_lr "
    "learning_rate_final_fraction",
    "--optimizer.weight_decay": "adam_weight_decay wd",
    "--optimizer.layer_decay": "layer_decay layerwise_lr_decay llrd layer_lr_decay layerwise_lr_decay_power",
    "--optimizer.beta1": "adam_beta1 adam_b1",
    "--optimizer.beta2": "adam_beta2 adam_b2",
    "epsilon is 1e-8 and no field: leave it out": "adam_epsilon adam_eps",
    "--optimizer.clip, the largest global norm of the gradient": (
        "max_grad_norm grad_clip gradient_clipping_threshold clip_norm"
    ),
    # Data
    "--data.sources.0.path, with --data.sources.0.kind text or jsonl": (
        "train_file train_files dataset_path hf_train_files grain_train_files data_files train_data"
    ),
    "--data.sources.0.validation": "validation_file hf_eval_files validation_files eval_file",
    "--data.sources.0.dataset, of TensorFlow Datasets with --data.sources.0.kind tfds; files of other data sets are "
    "--data.sources.0.path": "dataset_name dataset hf_path",
    "--data.sources.0.dataset, as name/config": "dataset_config_name dataset_config",
    "--data.sources.0.kind": "dataset_type",
    "--data.sources.0.split": "train_split",
    "--data.sources.0.fields": "text_column text_column_name train_data_columns",
    "--data.sources.0.template, with {field} for a field": "source_prefix",
    "a mixture is a list of sources in a preset: see --data.sources.0.path, and --data.objective.kind for the task": (
        "mixture_or_task_name MIXTURE_OR_TASK_NAME mixture_or_task_module MIXTURE_OR_TASK_MODULE TRAIN_EVAL_TASK task"
    ),
    "--data.length, the tokens of a row; targets of span corruption follow from it, and pairs have "
    "--data.target_length": "task_feature_lengths TASK_FEATURE_LENGTHS max_target_length",
    "--data.length": "max_seq_length max_length block_size input_length max_source_length seq_len sequence_length "
    "max_input_length",
    "--data.target_length": "target_length",
    "--data.objective.density": "mlm_probability noise_density mask_ratio masked_lm_prob",
    "--data.objective.mean_span": "mean_noise_span_length mean_span_length",
    "--data.objective.whole_words, which needs no file": "train_ref_file validation_ref_file whole_word_masking",
    "--data.documents, with --data.sources.0.document line": "line_by_line",
    "--data.pack": "packing PACK",
    "--data.held_out, a share: 0.05 for 5 percent": "validation_split_percentage",
    "--data.seed": "data_seed data_shuffle_seed shuffle_seed",
    "--data.store, the folder of the tokenised documents; nothing is downloaded": "cache_dir",
    "data is always prepared once, into --data.store: leave it out": "use_cached_tasks USE_CACHED_TASKS streaming "
    "tokenize_train_data tokenize_eval_data",
    "a store is never overwritten: choose another --data.store, or delete the folder": "overwrite_cache",
    "--processes of `t5like prepare`": "preprocessing_num_workers num_proc",
    "the input runs in the background by itself: leave it out": "dataloader_num_workers num_workers grain_worker_count",
    "--data.vocabulary.path, with --data.vocabulary.kind file": "tokenizer_name tokenizer_path tokenizer VOCABULARY "
    "sentencepiece_model",
    "--data.vocabulary.kind": "tokenizer_type",
    "each tokenizer has one reader: leave it out": "use_fast_tokenizer use_fast",
    "no code of others is run: leave it out": "trust_remote_code",
    # Model
    "--architecture NAME, one of `t5like architectures`": (
        "model_type config_name model_name model.name klass MODEL decoder_block"
    ),
    "--model.vocab for the rows of the embedding, --data.vocabulary.size for the learned pieces": (
        "vocab_size num_embeddings NUM_EMBEDDINGS"
    ),
    "--model.embed": "d_model hidden_size n_embd emb_dim base_emb_dim EMBED_DIM dim width",
    "--model.kv": "d_kv head_dim HEAD_DIM",
    "--model.mlp": "d_ff intermediate_size n_inner mlp_dim base_mlp_dim MLP_DIM ffn_dim",
    "--model.heads": "num_heads num_attention_heads n_head n_heads base_num_query_heads NUM_HEADS",
    "--model.kv_heads": "num_key_value_heads base_num_kv_heads num_kv_heads",
    "--model.encoder_layers and --model.decoder_layers": "num_layers num_hidden_layers n_layer n_layers NUM_LAYERS "
    "layers",
    "--model.encoder_layers": "num_encoder_layers NUM_ENCODER_LAYERS",
    "--model.decoder_layers": "num_decoder_layers base_num_decoder_layers NUM_DECODER_LAYERS",
    "--model.dropout": "dropout_rate DROPOUT_RATE hidden_dropout_prob attention_probs_dropout_prob resid_pdrop "
    "enable_dropout",
    "--model.lora.rank": "lora_r lora_rank use_peft use_lora",
    "--model.lora.alpha": "lora_alpha",
    "--model.lora.dropout": "lora_dropout",
    "--model.lora.targets, by the names query, key, value, out, gate, up and down": (
        "target_modules lora_target_modules lora_targets"
    ),
    "--model.lora.train, by the names of optimizer.groups": "modules_to_save",
    "--model.lora.dora": "use_dora",
    "--model.activation, and --model.gated": "feed_forward_proj hidden_act activation_function mlp_activations "
    "dense_act_fn",
    "--model.norm_epsilon": "layer_norm_epsilon layer_norm_eps rms_norm_eps normalization_layer_epsilon",
    "--model.tied": "tie_word_embeddings logits_via_embedding",
    "--model.relative_buckets": "relative_attention_num_buckets",
    "--model.relative_distance": "relative_attention_max_distance",
    "--model.max_positions": "max_position_embeddings n_positions n_ctx",
    "--model.rotary_base": "rope_theta rope_max_timescale",
    "--model.embedding_deviation": "initializer_range",
    "--model.token_types": "type_vocab_size",
    "--model.labels": "num_labels",
    "--model.attention": "attn_implementation attention_kernel",
    "--model.dtype, the type of activations; parameters are float32": "dtype torch_dtype precision ACTIVATION_DTYPE "
    "activation_dtype",
    "--model.dtype bfloat16": "bf16",
    "float16 is not there, since T5 overflows in it: --model.dtype bfloat16": "fp16",
    "parameters are float32 always: leave it out": "weight_dtype param_dtype",
    "softmax, logits and loss are float32 always: leave it out": "float32_attention_logits logits_dot_in_fp32",
    "--model.remat full": "gradient_checkpointing",
    "--model.remat": "remat_policy",
    "layers are scanned always: leave it out": "scan_layers",
    # Devices
    "--mesh.fsdp, with --rules fsdp": "ici_fsdp_parallelism fsdp_config deepspeed",
    "--mesh.tensor": "ici_tensor_parallelism num_partitions NUM_PARTITIONS model_parallel_submesh tensor_parallel_size",
    "--mesh.data": "ici_data_parallelism",
    "--mesh.sequence": "ici_sequence_parallelism ici_context_parallelism",
    "--mesh.slice": "dcn_data_parallelism num_slices",
    "--topology of `t5like plan`": "compile_topology",
}
OTHER_NAMES = {name: answer for answer, names in _ANSWERS.items() for name in names.split()}
"""The answer for each name, with the groups that it is told apart by: gin's in capitals, nanoT5's behind a dot."""
OTHER_OPTIONS = {
    "--tokens": "max_new_tokens max_tokens max_length max_decode_length",
    "--temperature, where 0 takes the likeliest token and 1 samples": "do_sample",
    "there is no beam search: --temperature, --top_k and --top_p choose": "num_beams beam_size num_return_sequences",
    "--prompt_file": "input_file prompts",
    "--size": "vocab_size",
    "--coverage": "character_coverage",
    "--characters": "input_sentence_size",
    "--output": "model_prefix output_dir",
    "--kind": "model_type",
    "--vocabulary": "tokenizer_name tokenizer tokenizer_path",
}
OTHER_OPTIONS = {name: answer for answer, names in OTHER_OPTIONS.items() for name in names.split()}
"""The same for options of commands, where the command at hand has the option."""
PUBLISHED = {
    "t5_small": "t5_1_0_small",
    "t5_base": "t5_1_0_base",
    "t5_large": "t5_1_0_large",
    "t5_3b": "t5_1_0_3b",
    "t5_11b": "t5_1_0_11b",
    **{
        f"{kind}_{size}": f"t5_1_1_{size}"
        for kind in ("t5_v1_1", "flan_t5")
        for size in ("small", "base", "large", "xl", "xxl")
    },
    "ul2": "ul2_20b",
    "flan_ul2": "ul2_20b",
    "bert_base_uncased": "bert_base",
    "bert_base_cased": "bert_base",
    "bert_large_uncased": "bert_large",
    "bert_large_cased": "bert_large",
    "gpt2": "gpt2_small",
    "llama_2_7b_hf": "llama_2_7b",
    "meta_llama_3_8b": "llama_3_8b",
    "llama_3.1_8b": "llama_3_1_8b",
    "llama_3.2_1b": "llama_3_2_1b",
    "tinyllama_1.1b": "tinyllama_1b",
}
"""Names on Hugging Face's hub, without their owners, in lower case and with _ for -, of our architectures."""

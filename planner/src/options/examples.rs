//! What stands below the options in `--help`.

/// Commands that can be typed as they stand, and what the exit status says.
pub(super) const EXAMPLES: &str = "\
EXAMPLES
  hetu-plan tiny-llama
      plan a shipped model for this machine; write plan.yaml and cluster.yaml
  hetu-plan llama3-8b --cluster 8xA100-80GB -o out/plan.yaml --report out/report
      plan for a node of eight devices that are not here
  hetu-plan llama3-70b --cluster 8x8xH100 --batch 256 --explain -o out/70b.yaml
      8 nodes of eight, another batch, the best plan in detail
  hetu-plan llama3-8b --cluster 2x8xH100 --tokens 1T --price 2.5/device-hour -o out/8b.yaml
      how long one trillion tokens take, and what they cost
  hetu-plan gpt3-1.3b --cluster 2xH100+4xA100 --batch 64 -o out/mixed.yaml
      a pipeline over unlike devices, or what one kind alone gives, if that is as fast
  hetu-plan llama3-70b --cluster 64x8xH100 --mtbf 2000d --save-rate 20GB/s -o out/often.yaml
      each device fails every 2000 days: how often to save, and what share of the time counts
  hetu-plan gpt2-124m --cluster 8xH100 --batch 64 --sweep devices=2..16 --report out/sweep
      the best plan for 2, 4, 8 and 16 devices side by side: how throughput, cost and efficiency go
  hetu-plan llama3-8b --cluster 8xH100 --why-not tensor=8 --why-not stages=4 -o out/why.yaml
      what the plans that one had in mind would take, or what forbids them
  hetu-plan llama3-8b --cluster 8xH100 --batch 64 --robust -o out/robust.yaml
      the plan that keeps the shortest step in nine of ten cases in which prices are wrong
  hetu-plan llama3-8b --cluster 8xH100 --pick 2 -o out/second.yaml
      the second plan of the list instead of the first
  hetu-plan llama3-8b --cluster 8xH100 --batch 64 --uniform --tensor 2 -o out/uniform.yaml
      only plans that one setting for all layers can say, two ranks to a product, nothing computed again
  hetu-plan export out/uniform.yaml --to megatron -o out/megatron
      the same for another trainer: megatron, torchtitan, deepspeed or huggingface
  hetu-plan check plan.yaml
      is the plan legal, does it fit, what does it cost
  hetu-plan check llama3-70b --cluster 8x8xH100 --tensor 8 --stages 4 --recompute full
      the same of a plan that is one line
  hetu-plan examples/published/tiny-llama --sequence-length 32 --cluster 8xH100 -o tiny/plan.yaml
      a Hugging Face folder with its config.json: tiny/model.yaml is written, too, where the recipe can be changed
  hetu-plan memory llama3-8b --devices 1,8,64
      will it fit: parameters, gradients, optimizer and activations by ZeRO stage
  hetu-plan dump tiny-llama --cluster 4xCPU -o out/problem.json
      the problem of numbers behind a plan; hetu-plan import has that of another planner's profiles
  hetu-plan solve out/problem.json --gap 0
      its best answer, and what is proven of it
  hetu-plan models
      the shipped models; hetu-plan clusters lists the devices
  hetu-plan --completions bash > hetu-plan.bash

A model of your own is a file: copy one of examples/models. With prices that hetu-profile measured, add
--cluster cluster.yaml --profile profile.yaml.

EXIT STATUS
  0 done; 1 no plan fits, or a check failed; 2 wrong use, or a file that cannot be read or written; 3 exported, but the
  trainer cannot say all of the plan; 130 interrupted";

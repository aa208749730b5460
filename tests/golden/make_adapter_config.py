#!/usr/bin/env python3
"""Write adapter_config.json as PEFT saves it, the golden file of tests/peft/test_config.c.

usage: make_adapter_config.py  (needs peft 0.21)
The order of rank_pattern is kept, since the first match decides; PEFT's own writer sorts it.
"""
import json
import os

import peft

config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["k", "q"], rank_pattern={"z": 4, "a": 2},
                         task_type="CAUSAL_LM", base_model_name_or_path="x/y", inference_mode=True)
keys = config.to_dict()
keys["target_modules"] = sorted(keys["target_modules"])
keys["peft_version"] = "0.21.0"
keys["task_type"], keys["peft_type"] = "CAUSAL_LM", "LORA"
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "adapter_config.json"), "w") as f:
    f.write(json.dumps(dict(sorted(keys.items())), indent=2) + "\n")

"""Which trained models do not fit plans of their name any more."""

import json

from nnunet_fganet.planning.models import models_of_other_plans
from nnunet_fganet.planning.planner import network_plan


def plans(**changes):
    planned = {"architecture": network_plan({"features_per_stage": [8, 8, 8]}), "patch_size": [64, 64], "batch_size": 2}
    inherited = {"inherits_from": "2d", "batch_size": 4}
    return {"plans_name": "P", "dataset_name": "D", "configurations": {"2d": planned | changes, "2d_b": inherited}}


def write_model(results, configuration, plans_name="P", fold="fold_0/checkpoint_final.pth"):
    model = results / f"T__{plans_name}__{configuration}"
    (model / fold).parent.mkdir(parents=True)
    (model / fold).touch()
    (model / "plans.json").write_text(json.dumps(plans()))
    return model


def test_models_of_another_network_patch_or_normalisation_are_found(tmp_path):
    models = [write_model(tmp_path, "2d"), write_model(tmp_path, "2d_b")]
    write_model(tmp_path, "2d", plans_name="P_other")
    for changes in (
        {"architecture": network_plan({"norm": "instance"})},
        {"patch_size": [96, 64]},
        {"normalization_schemes": ["NoNormalization"]},
    ):
        assert models_of_other_plans(tmp_path, plans(**changes), "P") == models
    for changes in ({}, {"batch_size": 8}, {"fganet": {"epochs": 3}}):
        assert models_of_other_plans(tmp_path, plans(**changes), "P") == []


def test_what_is_no_trained_model_does_not_matter(tmp_path):
    write_model(tmp_path, "2d", fold="fold_0/progress.png")
    (write_model(tmp_path, "2d_b") / "plans.json").write_text("{")
    assert models_of_other_plans(tmp_path, plans(patch_size=[32, 32]), "P") == []
    assert models_of_other_plans(tmp_path / "gone", plans(), "P") == []

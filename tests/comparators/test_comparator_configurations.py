import json

import pytest
from comparator_plans import PLANS, REGION, SIZE, plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_fganet.comparators.configurations import (
    comparator_configurations,
    configuration_name,
    write_comparator_plans,
)
from nnunet_fganet.comparators.registry import COMPARATORS, width_scale_of
from nnunet_fganet.errors import InputError
from nnunet_fganet.training.settings import TrainingSettings


def configuration(name, loss="nnunet", **arguments):
    return comparator_configurations(PLANS, REGION, [name], loss, **arguments)[configuration_name(name, loss)]


@pytest.mark.parametrize("name", COMPARATORS)
@pytest.mark.parametrize("loss", ["nnunet", "fganet"])
def test_all_but_network_and_loss_is_inherited(name, loss):
    whole = plans()
    whole["configurations"] |= comparator_configurations(PLANS, REGION, [name], loss)
    resolved = PlansManager(whole).get_configuration(configuration_name(name, loss)).configuration
    planned = PLANS["configurations"]["2d"]
    for key in planned.keys() - {"architecture", "fganet"}:
        assert resolved[key] == planned[key]
    settings, ours = (TrainingSettings.from_configuration(each) for each in (resolved, planned))
    assert settings.comparator_loss == loss
    assert (settings.epochs, settings.iterations) == (ours.epochs, ours.iterations) == (3, 2)
    assert settings.stage_weights == (ours.stage_weights if name == "fganet" else None)


def test_both_losses_have_a_name_of_their_own():
    names = {configuration_name(name, loss) for name in COMPARATORS for loss in ("nnunet", "fganet")}
    assert len(names) == 2 * len(COMPARATORS)
    assert "2d_unet" in names
    assert not any("__" in name for name in names)  # nnU-Net splits its folders' names there


def test_widths_follow_the_planned_fganet():
    assert width_scale_of(PLANS) == 0.25
    assert configuration("unet")["architecture"]["arch_kwargs"]["widths"] == [8, 16, 32, 64, 128]
    wide = configuration("unet", width_scale=1.0)["architecture"]["arch_kwargs"]["widths"]
    assert wide == [32, 64, 128, 256, 512]
    assert configuration("fganet", width_scale=1.0)["architecture"] == PLANS["configurations"]["2d"]["architecture"]


def test_stock_nnunet_is_what_nnunet_planned():
    ours = configuration("nnunet", width_scale=1.0)["architecture"]
    assert ours == PLANS["configurations"]["2d_stock"]["architecture"]


def test_residual_encoder_is_what_nnunets_planner_makes(nnunet):
    """nnU-Net's ResEncUNetPlanner on a data set whose frames have the size of our patch."""
    from nnunetv2.experiment_planning.experiment_planners.residual_unets.residual_encoder_unet_planners import (
        ResEncUNetPlanner,
    )
    from wire_dataset import DATASET_NAME, write_dataset

    write_dataset(nnunet.raw, REGION["labels"], regions=True)
    folder = nnunet.preprocessed / DATASET_NAME
    folder.mkdir()
    (folder / "dataset_fingerprint.json").write_text(json.dumps({"median_relative_size_after_cropping": 1.0}))
    planner = ResEncUNetPlanner(DATASET_NAME)
    planned = planner.get_plans_for_configuration([1.0, 1.0], [SIZE, SIZE], "2d", 1e6, {})["architecture"]
    ours = configuration("nnunet_resenc", width_scale=1.0)["architecture"]
    assert ours["network_class_name"] == planned["network_class_name"]
    stages = planned["arch_kwargs"]["n_stages"]
    assert stages == ours["arch_kwargs"]["n_stages"]
    assert json.loads(json.dumps(planned["arch_kwargs"], default=int)) == ours["arch_kwargs"]


@pytest.mark.parametrize(
    ("names", "arguments", "words"),
    [
        (["unet", "vnet"], {}, ["vnet", "attention_unet"]),
        (["unet"], {"loss": "dice"}, ["dice", "nnunet, fganet"]),
        (["unet"], {"encoder_weights": {"unet": "w.pth"}}, ["unet", "cenet"]),
        (["cenet"], {"encoder_weights": {"cenet": "absent.pth"}}, ["absent.pth", "cenet"]),
    ],
)
def test_what_is_not_known_is_named(tmp_path, names, arguments, words):
    if "encoder_weights" in arguments:
        arguments = {"encoder_weights": {name: tmp_path / file for name, file in arguments["encoder_weights"].items()}}
    with pytest.raises(InputError) as error:
        comparator_configurations(PLANS, REGION, names, **arguments)
    assert all(word in str(error.value) for word in words)


def test_a_patch_that_a_network_cannot_take_is_named():
    odd = plans()
    odd["configurations"]["2d"]["patch_size"] = [72, 72]
    with pytest.raises(InputError, match=r"nnunet does not take patches of \[72, 72\]"):
        comparator_configurations(odd, REGION, ["nnunet"])
    comparator_configurations(odd, REGION, ["unet", "fganet"])


def test_plans_without_fganet_or_stock_network_are_named():
    stock = plans()
    del stock["configurations"]["2d_stock"]
    with pytest.raises(InputError, match="2d_stock"):
        comparator_configurations(stock, REGION, ["nnunet"])
    stock["configurations"]["2d"]["architecture"] = PLANS["configurations"]["2d_stock"]["architecture"]
    with pytest.raises(InputError, match="fganet plan"):
        comparator_configurations(stock, REGION, ["unet"])


def test_a_missing_library_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "monai.networks.nets.attentionunet", None)
    monkeypatch.delitem(sys.modules, "nnunet_fganet.comparators.attention_unet", raising=False)
    with pytest.raises(InputError, match=r"nnunet_fganet\[compare\]"):
        comparator_configurations(PLANS, REGION, ["attention_unet"])


def test_an_encoder_file_is_kept_by_its_full_path(tmp_path, monkeypatch):
    (tmp_path / "resnet34.pth").touch()
    monkeypatch.chdir(tmp_path)
    from pathlib import Path

    made = configuration("cenet", encoder_weights={"cenet": Path("resnet34.pth")})
    assert made["fganet"]["encoder_weights_file"] == str(tmp_path / "resnet34.pth")
    assert "encoder_weights_file" not in configuration("cenet")["fganet"]


@pytest.fixture
def plans_file(tmp_path):
    file = tmp_path / "nnUNetFGANetPlans.json"
    file.write_text(json.dumps(PLANS))
    return file


def test_written_plans_are_whole_and_have_their_own_name(plans_file):
    target = plans_file.with_name("Comparison.json")
    write_comparator_plans(plans_file, target, comparator_configurations(PLANS, REGION, ["unet"]))
    written = json.loads(target.read_text())
    assert written["plans_name"] == "Comparison"
    assert set(written["configurations"]) == {"2d", "2d_stock", "2d_unet"}
    assert json.loads(plans_file.read_text()) == PLANS
    assert sorted(path.name for path in target.parent.iterdir()) == ["Comparison.json", "nnUNetFGANetPlans.json"]


def test_written_again_comparators_add_up_and_differences_are_refused(plans_file):
    target = plans_file.with_name("Comparison.json")
    write_comparator_plans(plans_file, target, comparator_configurations(PLANS, REGION, ["unet"]))
    first = target.stat().st_mtime_ns
    write_comparator_plans(plans_file, target, comparator_configurations(PLANS, REGION, ["unet"]))
    assert target.stat().st_mtime_ns == first
    write_comparator_plans(plans_file, target, comparator_configurations(PLANS, REGION, ["unet"], "fganet"))
    assert {"2d_unet", "2d_unet_fganet_loss"} <= set(json.loads(target.read_text())["configurations"])
    wider = comparator_configurations(PLANS, REGION, ["unet"], width_scale=0.5)
    before = target.read_text()
    with pytest.raises(InputError, match=r"other plans for 2d_unet: name another file"):
        write_comparator_plans(plans_file, target, wider)
    assert target.read_text() == before

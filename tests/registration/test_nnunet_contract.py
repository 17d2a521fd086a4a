"""What we rely on in nnU-Net 2.8, named one by one, so that an upgrade fails here and says where."""

import importlib
import inspect
import os
from importlib import metadata
from pathlib import Path

import pytest
import torch
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

SIGNATURES = {
    # Trainer: the constructor records its arguments by name, and initialize() recognises the network
    # builder by the argument name plans_manager.
    "nnunetv2.training.nnUNetTrainer.nnUNetTrainer:nnUNetTrainer.__init__": (
        "self plans configuration fold dataset_json device"
    ),
    "nnunetv2.training.nnUNetTrainer.nnUNetTrainer:nnUNetTrainer.build_network_architecture": (
        "plans_manager configuration_manager num_input_channels num_output_channels enable_deep_supervision"
    ),
    "nnunetv2.training.nnUNetTrainer.nnUNetTrainer:nnUNetTrainer.configure_optimizers": "self",
    "nnunetv2.training.nnUNetTrainer.nnUNetTrainer:nnUNetTrainer._build_loss": "self",
    "nnunetv2.training.nnUNetTrainer.nnUNetTrainer:nnUNetTrainer._get_deep_supervision_scales": "self",
    "nnunetv2.training.nnUNetTrainer.nnUNetTrainer:nnUNetTrainer.set_deep_supervision_enabled": "self enabled",
    "nnunetv2.training.nnUNetTrainer.nnUNetTrainer:nnUNetTrainer.train_step": "self batch",
    "nnunetv2.training.nnUNetTrainer.nnUNetTrainer:nnUNetTrainer.validation_step": "self batch",
    "nnunetv2.training.nnUNetTrainer.nnUNetTrainer:nnUNetTrainer.on_train_start": "self",
    "nnunetv2.training.nnUNetTrainer.nnUNetTrainer:nnUNetTrainer.save_checkpoint": "self filename",
    "nnunetv2.training.nnUNetTrainer.nnUNetTrainer:nnUNetTrainer.load_checkpoint": "self filename_or_checkpoint",
    "nnunetv2.training.nnUNetTrainer.nnUNetTrainer:nnUNetTrainer.perform_actual_validation": "self save_probabilities",
    # Networks from plans.
    "nnunetv2.utilities.get_network_from_plans:get_network_from_plans": (
        "arch_class_name arch_kwargs arch_kwargs_req_import input_channels output_channels allow_init deep_supervision"
    ),
    # Planning, called by our own command because nnU-Net finds planners in its own package only.
    "nnunetv2.experiment_planning.plan_and_preprocess_api:extract_fingerprint_dataset": (
        "dataset_id fingerprint_extractor_class num_processes check_dataset_integrity clean verbose show_progress_bar"
    ),
    "nnunetv2.experiment_planning.plan_and_preprocess_api:plan_experiment_dataset": (
        "dataset_id experiment_planner_class gpu_memory_target_in_gb preprocess_class_name "
        "overwrite_target_spacing overwrite_plans_name"
    ),
    "nnunetv2.experiment_planning.plan_and_preprocess_api:preprocess_dataset": (
        "dataset_id plans_identifier configurations num_processes verbose show_progress_bar"
    ),
    "nnunetv2.experiment_planning.experiment_planners.default_experiment_planner:"
    "ExperimentPlanner.get_plans_for_configuration": (
        "self spacing median_shape data_identifier approximate_n_voxels_dataset _cache"
    ),
    # Prediction.
    "nnunetv2.inference.predict_from_raw_data:nnUNetPredictor.initialize_from_trained_model_folder": (
        "self model_training_output_dir use_folds checkpoint_name"
    ),
    "nnunetv2.inference.predict_from_raw_data:nnUNetPredictor.predict_single_npy_array": (
        "self input_image image_properties segmentation_previous_stage output_file_truncated "
        "save_or_return_probabilities"
    ),
    # The search for trainers.
    "nnunetv2.utilities.find_objects:recursive_find_trainer_class_by_name": "trainer_name",
}


def test_version_is_the_one_that_was_read() -> None:
    assert metadata.version("nnunetv2").startswith("2.8."), (
        "read docs/registration.md, then these tests, then widen the range"
    )


@pytest.mark.parametrize("place", SIGNATURES)
def test_signature(place: str) -> None:
    module, _, path = place.partition(":")
    found = importlib.import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    assert " ".join(inspect.signature(found).parameters) == SIGNATURES[place]


@pytest.mark.parametrize(
    ("holder", "names"),
    [
        (
            ConfigurationManager,
            "configuration patch_size batch_size batch_dice network_arch_class_name network_arch_init_kwargs "
            "network_arch_init_kwargs_req_import pool_op_kernel_sizes use_mask_for_norm",
        ),
        (PlansManager, "plans get_configuration get_label_manager dataset_name plans_name image_reader_writer_class"),
        (
            ExperimentPlanner,
            "determine_normalization_scheme_and_whether_mask_is_used_for_norm plan_experiment save_plans load_plans",
        ),
    ],
)
def test_attributes_exist(holder: type, names: str) -> None:
    source = inspect.getsource(holder)
    assert [name for name in names.split() if not hasattr(holder, name) and f"self.{name} =" not in source] == []


def test_the_trainer_sets_what_ours_read_or_replace() -> None:
    source = inspect.getsource(nnUNetTrainer.__init__)
    names = (
        "num_epochs num_iterations_per_epoch num_val_iterations_per_epoch save_every initial_lr weight_decay "
        "enable_deep_supervision current_epoch output_folder label_manager configuration_manager disable_checkpointing "
        "local_rank device is_ddp"
    )
    assert [name for name in names.split() if f"self.{name} =" not in source] == []
    assert 'plans.pop("continue_training")' in source, "callers of the API need not set it any more"


def test_the_schedule_is_stepped_with_the_epoch_and_is_not_stored() -> None:
    assert "self.lr_scheduler.step(self.current_epoch)" in inspect.getsource(nnUNetTrainer.on_train_epoch_start)
    assert "scheduler" not in inspect.getsource(nnUNetTrainer.save_checkpoint)


def test_trainers_are_searched_in_the_folders_of_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    base = "from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer\n"
    (tmp_path / "contract_trainers.py").write_text(f"{base}class nnUNetTrainerContract(nnUNetTrainer): pass\n")
    folders = [str(tmp_path / "absent"), str(tmp_path)]
    monkeypatch.setenv("nnUNet_extTrainer", os.pathsep.join(folders))
    assert issubclass(recursive_find_trainer_class_by_name("nnUNetTrainerContract"), nnUNetTrainer)
    with pytest.raises(RuntimeError, match="nnUNet_extTrainer"):
        recursive_find_trainer_class_by_name("nnUNetTrainerThatNobodyWrote")


def test_pretrained_weights_skip_the_heads_by_name() -> None:
    from nnunetv2.run.load_pretrained_weights import load_pretrained_weights

    assert "'.seg_layers.'" in inspect.getsource(load_pretrained_weights)


def test_one_region_gives_one_head_and_plain_labels_give_two() -> None:
    from nnunetv2.utilities.label_handling.label_handling import LabelManager

    region = LabelManager({"background": 0, "guidewire": [1, 1]}, [1])
    plain = LabelManager({"background": 0, "guidewire": 1}, None)
    assert (region.has_regions, region.num_segmentation_heads) == (True, 1)
    assert (plain.has_regions, plain.num_segmentation_heads) == (False, 2)


def test_prediction_adds_to_the_outputs_in_place_and_mirrors() -> None:
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    source = inspect.getsource(nnUNetPredictor._internal_maybe_mirror_and_predict)
    assert "prediction += torch.flip(self.network(torch.flip(x, axes)), axes)" in source


def test_a_converted_split_is_copied_and_kept() -> None:
    source = inspect.getsource(inspect.getmodule(ExperimentPlanner))
    assert "_maybe_copy_splits_file(join(self.raw_dataset_folder, 'splits_final.json')" in source


def test_lines_of_the_training_log_that_the_demo_reads() -> None:
    source = inspect.getsource(nnUNetTrainer.on_epoch_end) + inspect.getsource(nnUNetTrainer.on_train_epoch_start)
    for line in ("f'Epoch {self.current_epoch}'", "'train_loss'", "'val_loss'", "'Pseudo dice'", 'f"Epoch time: '):
        assert line in source


def test_torchvision_has_the_deformable_convolution_that_the_network_calls() -> None:
    from torchvision.ops import deform_conv2d

    assert list(inspect.signature(deform_conv2d).parameters)[:3] == ["input", "offset", "weight"]
    assert deform_conv2d(torch.ones(1, 1, 3, 3), torch.zeros(1, 18, 1, 1), torch.ones(1, 1, 3, 3)).item() == 9

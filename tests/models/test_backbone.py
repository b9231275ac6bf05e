"""ResNet-FPN: shapes, norms, frozen stages and where weights come from."""

from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torch import nn
from torchvision.models import resnet18, wide_resnet50_2
from torchvision.models import resnet50 as resnet50_of_torchvision
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork

from detloss.errors import UserError
from detloss.models.backbone import ResNetFPN
from detloss.models.pretrained import coco_state_dict


def tiny(**settings: object) -> ResNetFPN:
    arguments: dict[str, object] = {"depth": 18, "levels": [3, 4, 5], "channels": 32, **settings}
    return ResNetFPN(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("levels", "names"),
    [
        ([3, 4, 5], ["0", "1", "2"]),
        ([2, 3, 4, 5, 6], ["0", "1", "2", "3", "pool"]),
        ([3, 4, 5, 6, 7], ["0", "1", "2", "p6", "p7"]),
    ],
)
def test_level_l_has_a_stride_of_two_to_the_l(levels: list[int], names: list[str]) -> None:
    pyramid = tiny(levels=levels)(torch.zeros(1, 3, 128, 128))
    assert list(pyramid) == names
    assert [tuple(level.shape) for level in pyramid.values()] == [
        (1, 32, 128 // 2**level, 128 // 2**level) for level in levels
    ]


@pytest.mark.parametrize(
    ("norm", "module"),
    [
        ("batch", nn.BatchNorm2d),
        ("sync", nn.SyncBatchNorm),
        ("frozen", FrozenBatchNorm2d),
        ("group", nn.GroupNorm),
    ],
)
def test_every_norm_of_the_body_is_the_one_asked_for(norm: str, module: type[nn.Module]) -> None:
    known = (nn.modules.batchnorm._BatchNorm, FrozenBatchNorm2d, nn.GroupNorm)
    norms = [part for part in tiny(norm=norm).body.modules() if isinstance(part, known)]
    assert len(norms) == 20  # ResNet-18: the stem, 16 in its blocks, 3 where a stage halves the resolution
    assert all(type(part) is module for part in norms)


@pytest.mark.parametrize("trainable", range(6))
def test_the_stem_and_first_stages_stay_frozen(trainable: int) -> None:
    stages = ("conv1", "layer1", "layer2", "layer3", "layer4")
    learning = set(stages[len(stages) - trainable :])
    for name, parameter in tiny(trainable_layers=trainable).named_parameters():
        owner, stage = name.split(".")[:2]
        stage = "conv1" if stage == "bn1" else stage
        assert parameter.requires_grad == (owner == "fpn" or stage in learning), name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"norm": "bacth"}, r"backbone\.norm=bacth.*did you mean 'batch'\?"),
        ({"depth": 19}, r"backbone\.depth=19: expected one of 18, 34, 50"),
        ({"trainable_layers": 6}, r"backbone\.trainable_layers=6: expected 0 to 5"),
    ],
)
def test_unknown_settings_are_refused_in_one_line(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        tiny(**settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("norm", ["batch", "frozen"])
def test_a_local_file_gives_the_features_of_the_network_that_wrote_it(tmp_path: Path, norm: str) -> None:
    torch.manual_seed(0)
    source = resnet18()
    source.train()(torch.rand(4, 3, 64, 64))  # running statistics of its own
    torch.save(source.eval().state_dict(), tmp_path / "resnet18.pth")
    backbone = tiny(norm=norm, weights=str(tmp_path / "resnet18.pth")).eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        found = backbone.body(images)
        stem = source.maxpool(source.relu(source.bn1(source.conv1(images))))
        layer2 = source.layer2(source.layer1(stem))
        layer4 = source.layer4(source.layer3(layer2))
    torch.testing.assert_close(found["0"], layer2, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found["2"], layer4, rtol=1e-5, atol=1e-5)


def test_a_file_of_another_network_is_refused_with_its_names(tmp_path: Path) -> None:
    torch.save(resnet18().state_dict(), tmp_path / "resnet18.pth")
    with pytest.raises(UserError, match=r"does not fit ResNet-34 .*layer1\.2\."):
        tiny(depth=34, weights=str(tmp_path / "resnet18.pth"))
    with pytest.raises(UserError, match=r"does not fit ResNet-18 with this backbone\.norm"):
        tiny(norm="group", weights=str(tmp_path / "resnet18.pth"))
    with pytest.raises(UserError, match="no such file"):
        tiny(weights=str(tmp_path / "missing.pth"))


def test_equal_names_of_other_shapes_are_refused(tmp_path: Path) -> None:
    """Wide ResNet-50 has the parameter names of ResNet-50."""
    with torch.device("meta"):
        wide, plain = wide_resnet50_2().state_dict(), resnet50_of_torchvision().state_dict()
    assert wide.keys() == plain.keys()
    torch.save({name: torch.zeros(value.shape) for name, value in wide.items()}, tmp_path / "wide.pth")
    with pytest.raises(UserError, match=r"does not fit ResNet-50 .*layer1\.0\."):
        tiny(depth=50, weights=str(tmp_path / "wide.pth"))


@pytest.mark.parametrize(
    "failure",
    [
        URLError("[Errno -3] Temporary failure in name resolution"),
        RuntimeError('invalid hash value (expected "f37072fd", got "0000")'),
        PermissionError(13, "Permission denied", "/cache"),
        TimeoutError(),
    ],
)
def test_a_failed_download_says_so_in_one_line_and_names_the_option(
    monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    with pytest.raises(UserError, match=r"could not download .*backbone\.weights=PATH") as error:
        tiny(weights="imagenet")
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"could not download .*model\.weights=PATH.*model\.weights=null"):
        coco_state_dict("retinanet", "coco")


def test_the_downloaded_weights_are_imagenet_v1(monkeypatch: pytest.MonkeyPatch) -> None:
    """The papers' recipe; torchvision's default would be another."""
    asked: list[str] = []

    def pretend(url: str, **_: object) -> dict[str, torch.Tensor]:
        asked.append(url)
        return resnet18().state_dict()

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", pretend)
    tiny(weights="imagenet")
    assert [url.rsplit("/", 1)[1] for url in asked] == ["resnet18-f37072fd.pth"]


def test_the_pyramid_is_torchvisions() -> None:
    backbone = tiny().eval()
    pyramid = FeaturePyramidNetwork([128, 256, 512], 32)
    pyramid.load_state_dict(backbone.fpn.state_dict())
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = pyramid(backbone.body(images))
        for name, level in backbone(images).items():
            torch.testing.assert_close(level, expected[name])

from pathlib import Path

import pytest

from rkllama_flask.machine.platforms import platform_of, this_platform


@pytest.mark.parametrize(
    ("compatible", "platform"),
    [
        (b"radxa,rock-5b\0rockchip,rk3588\0", "RK3588"),
        (b"friendlyarm,nanopi-r6s\0rockchip,rk3588s\0", "RK3588"),
        (b"rockchip,rk3576-evb1\0rockchip,rk3576\0", "RK3576"),
        (b"rockchip,rv1126b\0", "RV1126B"),
        (b"pine64,rockpro64\0rockchip,rk3399\0", None),
        (b"raspberrypi,5-model-b\0brcm,bcm2712\0", None),
        (b"\xff\0", None),
    ],
)
def test_a_board_says_which_npu_it_has(compatible: bytes, platform: str | None, tmp_path: Path) -> None:
    (tmp_path / "device-tree").mkdir()
    (tmp_path / "device-tree" / "compatible").write_bytes(compatible)
    assert this_platform(tmp_path) == platform


def test_a_machine_without_a_device_tree_has_none(tmp_path: Path) -> None:
    assert this_platform(tmp_path) is None


def test_variants_of_a_chip_are_one_platform() -> None:
    assert {platform_of(name) for name in ("rk3588", "RK3588S", "rk3588s2")} == {"RK3588"}

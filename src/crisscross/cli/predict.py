"""`crisscross predict`: label images and videos; writes PNGs or other formats, and videos."""

import argparse
from pathlib import Path

from crisscross.cli.options import add_card, add_computing, add_force, add_network, fraction, positive
from crisscross.cli.predicting import predict_formats, predict_raster, predict_video
from crisscross.terminal import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = (
        "Label images (as index, color and overlay PNGs, polygons, COCO's JSON ...) and videos (as NAME.mp4)."
    )
    add_network(parser, exported=True)
    add_card(parser)
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="images, videos, folders of them, or lists of images (.txt, a path on each line)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("predictions"),
        metavar="DIR",
        help="the folder to write (default predictions); for a single video also a file",
    )
    predict_formats.add_options(parser)
    predict_video.add_options(parser)
    add_computing(parser)
    parser.add_argument(
        "--tta", action="store_true", help="predict at several scales, with flips: slower, slightly better"
    )
    parser.add_argument(
        "--big",
        action="store_true",
        help="label images of any size (also .npy files and GeoTIFF) block by block; writes only labels/; "
        "with --format polygons also polygons/NAME.geojson (WGS 84) for each GeoTIFF",
    )
    parser.add_argument(
        "--block",
        type=positive,
        metavar="N",
        help="with --big: side of a block in pixels (default 1024); a quarter of it overlaps the next",
    )
    predict_raster.add_options(parser)
    parser.add_argument(
        "--score", type=fraction, metavar="S", help="instance segmentation: the lowest score to keep (default 0.5)"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on where an earlier run stopped: label the images that lack an output"
    )
    add_force(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from crisscross import tasks
    from crisscross.api.networks import wanted
    from crisscross.api.predicting import check_outputs, label_images, written_names
    from crisscross.engine.bulk import share

    names = ("device", "weights", "offline", "trust", "optimize", "precision", "backend", "card")
    network = wanted(arguments.network, **{name: getattr(arguments, name) for name in names})
    task = network.task()
    images, videos = predict_video.parted(arguments, task.kinds, task.refuses.get("video", ""))
    tasks.refuse(task, {**vars(arguments), "video": bool(videos)})
    formats = predict_formats.chosen_formats(arguments, task, bool(images))
    raster = predict_raster.options(arguments, formats)
    options = {**vars(arguments), "formats": formats, "raster": raster, "share": share()}
    found = check_outputs(task, images, arguments.out, options, network.files, videos)
    code = predict_video.run(arguments, videos, network) if videos else 0
    if arguments.resume or options["share"].processes > 1:
        say(f"{len(found)} images to label{options['share'].title}")
    if not found:
        return code
    net, results = label_images(network, task, found, arguments.out, options)
    failed = sum(result.error is not None for result in results)
    if failed < len(found):
        written = written_names(task, net, options)
        say(f"predicted {len(found) - failed} of {len(found)}: {arguments.out} ({', '.join(written)})")
    if failed:
        say(f"crisscross: {failed} of {len(found)} could not be read, see above", error=True)
    return 2 if failed else code

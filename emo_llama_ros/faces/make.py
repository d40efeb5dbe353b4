"""Face analyzers by name: each choice of the option `analyzer` is a module of this folder with a `DECLARATION`."""

from __future__ import annotations

import logging
from importlib import import_module

from emo_llama_ros.faces.face import AnalyzerDeclaration, FaceAnalyzer
from emo_llama_ros.options import Options

logger = logging.getLogger(__name__)


def analyzer_declaration(options: Options) -> AnalyzerDeclaration:
    """Return what the analyzer that `options.analyzer` names says of itself; imports nothing heavy."""
    declared: AnalyzerDeclaration = import_module(f"emo_llama_ros.faces.{options.analyzer}").DECLARATION
    return declared


def make_analyzer(options: Options) -> FaceAnalyzer:
    """Return the analyzer that `options.analyzer` names.

    Warns when a user's expression network disagrees with the sample faces, where those were fetched. Raises
    MissingModel or MissingDependency when a file or package that it needs is not there.
    """
    analyzer = build_analyzer(options)
    if options.expression_model:
        from emo_llama_ros.faces.sample_check import label_disagreement

        doubt = label_disagreement(analyzer)
        if doubt:
            logger.warning(doubt)
    return analyzer


def build_analyzer(options: Options) -> FaceAnalyzer:
    """Return the analyzer as `make_analyzer` does, without a look at the sample faces."""
    return analyzer_declaration(options).make(options)

# xferlab in an image, with Ray's cluster services, for a user who is not root. Build it in the checkout:
#
#   docker build --tag xferlab:0.1.0 .                                       # PyTorch with CUDA
#   docker build --tag xferlab:0.1.0 --build-arg TORCH_INDEX=<the URL> .     # a CPU build; docs/commands.md has the URL
#   docker run --rm --init --gpus all --user "$(id -u):$(id -g)" --volume "$PWD:/work" xferlab:0.1.0 run study.yaml
#
# BASE is any image with Debian's packages and Python 3.11 to 3.13. jobs/xferlab.def has the same steps for Apptainer.
ARG BASE=python:3.12-slim
FROM ${BASE}
ARG TORCH_INDEX=

# KubeRay asks nodes by wget whether they are well; `training.compile` needs a compiler. The folders are for any
# user that a container runs as.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home xferlab \
    && install --directory --mode=1777 /cache /work

# What xferlab needs is a layer of its own, of some GB, which a change of xferlab itself leaves as it is.
COPY pyproject.toml constraints.txt README.md LICENSE /opt/xferlab/
WORKDIR /opt/xferlab
RUN PIP_EXTRA_INDEX_URL="$TORCH_INDEX" \
    pip install --no-cache-dir --constraint constraints.txt '.[cluster,dashboard,dicom,export,nifti,tune]' \
    && rm -rf build ./*.egg-info

# xferlab/analysis and xferlab/templates are links to the other four.
COPY analysis analysis
COPY examples examples
COPY jobs jobs
COPY search_spaces search_spaces
COPY xferlab xferlab
RUN pip install --no-cache-dir --no-deps --force-reinstall . && rm -rf build ./*.egg-info

ENV XFERLAB_CACHE=/cache
USER 1000:1000
WORKDIR /work
ENTRYPOINT ["xferlab"]
CMD ["--help"]

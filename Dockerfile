# The course for one learner, on the CPU:
#   docker build -t ulmfit-course .
#   docker run --rm -it -p 8888:8888 -v lessons:/home/learner/work ulmfit-course
# deploy/compose.yaml starts JupyterHub, which gives each learner of a class a container of this image.
FROM python:3.12-slim

RUN useradd --create-home --uid 1000 learner && mkdir /home/learner/work && chown learner /home/learner/work
WORKDIR /opt/course

COPY constraints.txt ./
RUN pip install --no-cache-dir --no-deps -c constraints.txt --extra-index-url https://download.pytorch.org/whl/cpu torch torchvision
COPY settings.ini setup.py pyproject.toml README.md LICENSE ./
COPY ulmfit_course ulmfit_course
COPY nbs nbs
COPY bench/results bench/results
COPY experiments/results experiments/results
COPY docs/teaching docs/teaching
RUN pip install --no-cache-dir -c constraints.txt '.[lab]' jupyterhub==6.1.1
COPY deploy/learner.sh /usr/local/bin/learner
COPY deploy/jupyter_server_config.json /etc/jupyter/jupyter_server_config.json

# What a learner does, and how far they are in the exercises, is in one folder: the one to keep
ENV ULMFIT_COURSE_HOME=/home/learner/work/.ulmfit_course
USER learner
WORKDIR /home/learner/work
EXPOSE 8888
CMD ["ulmfit-course", "lab", "lessons", "--no-browser", "--port", "8888"]

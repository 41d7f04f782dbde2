# JupyterHub, which starts the containers of the learners
FROM python:3.12-slim
RUN apt-get update && apt-get install -y --no-install-recommends nodejs npm && rm -rf /var/lib/apt/lists/* \
    && npm install --global --no-fund --no-audit configurable-http-proxy@5
COPY hub-requirements.txt /tmp/
RUN pip install --no-cache-dir -r /tmp/hub-requirements.txt
COPY jupyterhub_config.py /srv/jupyterhub/jupyterhub_config.py
WORKDIR /srv/state
EXPOSE 8000
CMD ["jupyterhub", "--config", "/srv/jupyterhub/jupyterhub_config.py"]

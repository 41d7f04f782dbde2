"JupyterHub for a class: each learner has a container with a limit of memory, and a folder that stays"
import os, sys

def said(name):
    "What the teacher has written into deploy/.env"
    if not os.environ.get(name): sys.exit(f'{name} is not set: write a line {name}=... into deploy/.env')
    return os.environ[name]

c = get_config()  # noqa: F821, JupyterHub's

# Who comes in: whoever knows the password of the class, under any name; `teacher` has a password of their own, and sees everybody's server
c.JupyterHub.authenticator_class = 'shared-password'
c.SharedPasswordAuthenticator.user_password = said('CLASS_PASSWORD')
c.SharedPasswordAuthenticator.admin_password = said('TEACHER_PASSWORD')
c.Authenticator.admin_users = {'teacher'}
c.Authenticator.allow_all = True

# What each of them gets
c.JupyterHub.spawner_class = 'docker'
c.DockerSpawner.image = 'ulmfit-course'
c.DockerSpawner.cmd = ['learner']
c.DockerSpawner.volumes = {'ulmfit-course-{username}': '/home/learner/work'}   # stays when the container goes
c.DockerSpawner.remove = True
c.DockerSpawner.network_name = 'ulmfit-course'
c.DockerSpawner.use_internal_ip = True
c.Spawner.default_url = '/lab/tree/lessons/nbs/index.ipynb'
c.Spawner.mem_limit = os.environ.get('LEARNER_MEMORY', '2G')
c.Spawner.cpu_limit = float(os.environ.get('LEARNER_CPUS', '2'))
c.Spawner.start_timeout = 120

# Where the parts find each other, and what outlives a restart
c.JupyterHub.bind_url = 'http://:8000'
c.JupyterHub.hub_ip = '0.0.0.0'
c.JupyterHub.hub_connect_ip = 'hub'
c.JupyterHub.db_url = 'sqlite:////srv/state/jupyterhub.sqlite'
c.JupyterHub.cookie_secret_file = '/srv/state/cookie_secret'

# A server that nobody has used for an hour gives its memory back; the folder stays
c.JupyterHub.load_roles = [dict(name='idle', services=['idle'], scopes=['list:users', 'read:users:activity', 'read:servers', 'delete:servers'])]
c.JupyterHub.services = [dict(name='idle', command=[sys.executable, '-m', 'jupyterhub_idle_culler', '--timeout=3600'])]

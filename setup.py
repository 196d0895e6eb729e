"Everything this package declares is read from `settings.ini`; `NAME_requirements` there becomes the extra `[NAME]`."
from configparser import ConfigParser
from pathlib import Path
from setuptools import find_packages, setup

here = Path(__file__).parent
ini = ConfigParser(delimiters=['='], interpolation=None)
ini.read(here/'settings.ini', encoding='utf-8')
cfg = ini['DEFAULT']
lib, readme, end = cfg['lib_name'], here/'README.md', '_requirements'

setup(
    name=lib, version=cfg['version'], description=cfg['description'], author=cfg['author'], author_email=cfg['author_email'],
    license=cfg['license'].upper(), keywords=cfg['keywords'], url=cfg['git_url'],
    packages=find_packages(include=[lib, f'{lib}.*']), python_requires='>=' + cfg['min_python'],
    install_requires=cfg['requirements'].split(),
    extras_require={k.removesuffix(end): v.split() for k, v in cfg.items() if k.endswith(end)},
    long_description=readme.read_text(encoding='utf-8') if readme.exists() else '', long_description_content_type='text/markdown',
    entry_points={'console_scripts': cfg['console_scripts'].split('\n'), 'nbdev': [f'{lib}={lib}._modidx:d']},
)

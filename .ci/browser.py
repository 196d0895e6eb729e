"""The apps, and the widget in JupyterLab, used in a real browser as a person would. Last line: `N passed, M failed`.

usage: browser.py [--only NAME] [--shots FOLDER]     needs Debian's chromium (or CHROMIUM=/path) and `pip install playwright`
"""
import argparse, io, os, re, signal, socket, subprocess, sys, tempfile, time, traceback, urllib.request
from contextlib import contextmanager
from pathlib import Path
from PIL import Image
from playwright.sync_api import expect, sync_playwright

root = Path(__file__).resolve().parents[1]
bin = Path(sys.executable).parent
chromium = os.environ.get('CHROMIUM', '/usr/bin/chromium')
FLAGS = '--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync'.split()
SLOW = 120_000                                                              # ms, for a loaded machine

def free_port():
    with socket.socket() as s: s.bind(('127.0.0.1', 0)); return s.getsockname()[1]

@contextmanager
def serve(*command, port, path='/'):
    "Run a server until it answers; at the end it has to stop when it is asked to"
    env = {**os.environ, 'HF_HUB_OFFLINE': '1', 'GRADIO_ANALYTICS_ENABLED': 'False'}
    with tempfile.TemporaryFile('w+') as log:
        p = subprocess.Popen([str(c) for c in command], cwd=root, env=env, stdout=log, stderr=subprocess.STDOUT)
        try:
            for _ in range(600):
                try: urllib.request.urlopen(f'http://127.0.0.1:{port}{path}', timeout=2); break
                except OSError: time.sleep(.2)
                if p.poll() is not None: break
            else: raise TimeoutError('want an answer within two minutes, got none')
            if p.poll() is not None: log.seek(0); raise RuntimeError('the server ended:\n'+log.read()[-2000:])
            yield f'http://127.0.0.1:{port}{path}'
            p.send_signal(signal.SIGTERM); p.wait(20)
        finally: p.kill()

def app(kind, *more):
    port = free_port()
    return serve(bin/'pixart', 'app', kind, '--port', port, *more, port=port)

def shot(page, name):
    if shots: page.screenshot(path=str(shots/f'{name}.png'), full_page=True)

def picture_of(page, selector):
    "The picture an element shows"
    src = page.locator(selector).first.get_attribute('src')
    return Image.open(io.BytesIO(page.request.get(src).body())).convert('RGB')

def upload(tab, path):
    "Give a picture to the first field that takes one; a page that was not ready yet is given it again"
    for last in (False, False, True):
        tab.locator('input[type=file]').first.set_input_files(path)
        try: return expect(tab.locator('.image-container img, .image-frame img').first).to_be_visible(timeout=20_000)
        except AssertionError:
            if last: raise

# ---- what a person does

def saw(words):
    "The checker agrees; it may see a texture the prompt did not name"
    color,shape = words.split(); return re.compile(f'✓ an? (large |small )?{color} ((striped|dotted) )?{shape}')

def number(tab, label, value):
    "Fill a slider's number, and see that it stays"
    box = tab.get_by_label(f'number input for {label}'); expect(box).to_be_visible(); box.fill(value); box.press('Enter'); page = box.page; page.wait_for_timeout(300); expect(box).to_have_value(value)

def text(page):
    "Type, generate, see a picture whose reading matches; cancel; reload; a mistake is told; from a picture; a mark is painted anew"
    with app('t2i') as url:
        page.goto(url); tab = page.get_by_role('tabpanel').first
        tab.get_by_label('Prompt', exact=True).fill('a red circle'); tab.get_by_label('Seed, -1: any').fill('3'); tab.get_by_role('button', name='Generate').click()
        expect(tab.get_by_text('done', exact=True)).to_be_visible(timeout=SLOW); expect(tab.get_by_text(saw('red circle')).first).to_be_visible()
        expect(tab.get_by_label('Seed used')).to_have_value('3'); shot(page, 'app-text')
        im = picture_of(page, '.pictures img'); assert im.size==(64,64), im.size
        tab.get_by_role('button', name='More').click(); number(tab, 'Steps', '50'); number(tab, 'Pictures', '4'); tab.get_by_role('button', name='Generate').click()
        expect(tab.get_by_text(re.compile(r'^step \d+ of 50'))).to_be_visible(timeout=SLOW); tab.get_by_role('button', name='Cancel').click()
        expect(tab.get_by_text('stopped', exact=True)).to_be_visible(timeout=SLOW)
        page.reload(); tab = page.get_by_role('tabpanel').first; tab.get_by_label('Prompt', exact=True).fill('   '); tab.get_by_role('button', name='Generate').click()
        expect(page.get_by_text('want a few words, got none')).to_be_visible(timeout=SLOW)
        tab.get_by_label('Prompt', exact=True).fill('a blue star on white'); tab.get_by_role('button', name='Generate').click(); expect(tab.get_by_text('done', exact=True)).to_be_visible(timeout=SLOW)
        page.get_by_role('tab', name='From a picture').click(); tab = page.get_by_role('tabpanel').first             # hidden ones have no role
        with tempfile.NamedTemporaryFile(suffix='.png') as f:
            Image.new('RGB', (64,64), 'white').save(f, 'png'); f.flush(); upload(tab, f.name)
        tab.get_by_label('Prompt', exact=True).fill('a green square'); tab.get_by_label('Seed, -1: any').fill('3'); number(tab, 'How far', '0.9'); tab.get_by_role('button', name='Generate').click()
        expect(tab.get_by_text('done', exact=True)).to_be_visible(timeout=SLOW); shot(page, 'app-image'); expect(tab.get_by_text(saw('green square')).first).to_be_visible()
        page.get_by_role('tab', name='Paint anew').click(); tab = page.get_by_role('tabpanel').first; tab.get_by_label('Prompt', exact=True).fill('a red circle'); tab.get_by_role('button', name='Generate').click()
        expect(page.get_by_text('got no picture')).to_be_visible(timeout=SLOW)
        with tempfile.NamedTemporaryFile(suffix='.png') as f:
            Image.new('RGB', (256,256), 'white').save(f, 'png'); f.flush(); tab.locator('input[type=file]').first.set_input_files(f.name); page.wait_for_timeout(3000)
        scribble(page, tab.locator('canvas').first); page.wait_for_timeout(1000); tab.get_by_role('button', name='Generate').click()
        expect(tab.get_by_text('done', exact=True)).to_be_visible(timeout=SLOW); shot(page, 'app-anew')

def scribble(page, canvas):
    "Draw a ring with the mouse"
    from math import cos, pi, sin
    box = canvas.bounding_box(); r = .22*min(box['width'], box['height']); at = lambda a: (box['x']+box['width']/2+r*cos(a), box['y']+box['height']/2+r*sin(a))
    page.mouse.move(*at(0)); page.mouse.down()
    for k in range(1, 41): page.mouse.move(*at(2*pi*k/40))
    page.mouse.up()

def control(page):
    "Draw a circle, name a colour: a circle of that colour comes, at that place; an empty sheet is refused"
    with app('control') as url:
        page.goto(url); page.get_by_label('Prompt', exact=True).fill('a red circle'); page.get_by_label('Seed, -1: any').fill('3'); page.get_by_role('button', name='Generate').click()
        expect(page.get_by_text('got an empty sheet')).to_be_visible(timeout=SLOW)
        page.reload(); page.get_by_label('Prompt', exact=True).fill('a red circle'); page.get_by_label('Seed, -1: any').fill('3')
        scribble(page, page.locator('canvas').first); page.wait_for_timeout(1000); page.get_by_role('button', name='Generate').click()
        expect(page.get_by_text('done', exact=True)).to_be_visible(timeout=SLOW); shot(page, 'app-control'); expect(page.get_by_text(saw('red circle')).first).to_be_visible()
        lines = picture_of(page, '.picture img'); assert max(lines.convert('L').tobytes())>150, 'want drawn lines, got darkness'

def live(page):
    "The picture follows the words"
    with app('lcm') as url:
        page.goto(url); box = page.get_by_label('Prompt', exact=True); box.press_sequentially('a blue star', delay=60)
        expect(page.get_by_text(saw('blue star')).first).to_be_visible(timeout=SLOW); shot(page, 'app-live')
        box.fill('a red circle'); expect(page.get_by_text(saw('red circle')).first).to_be_visible(timeout=SLOW)

def locked(page):
    "With --auth nobody gets in without the password"
    with app('t2i', '--auth', 'ann:secret') as url:
        page.goto(url); expect(page.get_by_label('Prompt', exact=True)).to_have_count(0); page.get_by_label('username').fill('ann'); page.get_by_label('password').fill('secret'); page.get_by_role('button', name='Login').click()
        expect(page.get_by_label('Prompt', exact=True).first).to_be_visible(timeout=SLOW)

def lab(page):
    "The widget in JupyterLab: run, generate, see the reading, cancel, go back in the strip"
    port = free_port()
    with tempfile.TemporaryDirectory() as tmp:
        import nbformat
        nb = nbformat.v4.new_notebook(metadata=dict(kernelspec=dict(name='python3', display_name='Python 3 (ipykernel)', language='python')), cells=[nbformat.v4.new_code_cell("from pixart_nb.app import Playground, PixArtPipeline\nfrom pixart_nb.cli import shipped\nPlayground(PixArtPipeline.from_pretrained(shipped('pixart-nano')))")])
        nbformat.write(nb, Path(tmp)/'play.ipynb')
        with serve(bin/'jupyter', 'lab', '--no-browser', '--allow-root', '--ip', '127.0.0.1', '--port', port, '--IdentityProvider.token=', f'--ServerApp.root_dir={tmp}', '--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate', '--LabApp.news_url=None', port=port, path='/api'):
            page.goto(f'http://127.0.0.1:{port}/lab/tree/play.ipynb?reset'); expect(page.get_by_text('Python 3 (ipykernel) | Idle')).to_be_visible(timeout=SLOW); page.get_by_text('Playground(').first.click(timeout=SLOW); page.keyboard.press('Control+Enter')
            go = page.get_by_role('button', name='Generate'); expect(go).to_be_visible(timeout=SLOW); page.locator('.jp-OutputArea input[type=text]').first.fill('a blue star'); page.keyboard.press('Tab'); go.click()
            expect(page.locator('.jp-OutputArea').get_by_text(saw('blue star')).first).to_be_visible(timeout=SLOW); shot(page, 'widget')
            page.get_by_role('button', name='⚄').click(); page.get_by_role('button', name='Cancel').click(timeout=SLOW)
            expect(page.locator('.jp-OutputArea').get_by_text(re.compile('stopped|[✓✗] a')).first).to_be_visible(timeout=SLOW); page.get_by_role('button', name='↺ 0').first.click()

TESTS = dict(text=text, control=control, live=live, locked=locked, lab=lab)

if __name__ == '__main__':
    a = argparse.ArgumentParser(); a.add_argument('--only'); a.add_argument('--shots', type=Path); a = a.parse_args(); shots = a.shots
    results = []
    with sync_playwright() as pw:
        browser = pw.chromium.launch(executable_path=chromium, args=FLAGS)
        for name,fn in TESTS.items():
            if a.only and name!=a.only: continue
            page, start = browser.new_page(viewport=dict(width=1200, height=900)), time.time()
            try: fn(page); results.append(True); print(f'ok   {time.time()-start:6.1f} s  {name}', flush=True)
            except Exception:
                results.append(False); print(f'FAIL {time.time()-start:6.1f} s  {name}\n'+traceback.format_exc(limit=-3), flush=True)
                if shots: page.screenshot(path=str(shots/f'failed-{name}.png'))
            page.close()
        browser.close()
    print(f'{sum(results)} passed, {len(results)-sum(results)} failed'); sys.exit(not all(results))

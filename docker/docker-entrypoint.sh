#!/bin/sh
# Starts what APP_CONTEXT names; every other variable has a default too.
#   t2i | control | lcm   a Gradio app       PIPELINE CONTROLNET ADAPTERS ("name=folder …") PORT=7860 AUTH (user:password) QUEUE=20
#   lab                   the lessons        PORT=8888 TOKEN (empty: none asked for)
#   train                 `pixart demo`      OUT=/outputs/demo MINUTES=6 DATA (a folder of captioned pictures)
# With arguments it runs them instead: docker run pixart_nb pixart sample "a red circle" --out /outputs
set -eu
: "${APP_CONTEXT:=t2i}" "${HOST:=0.0.0.0}" "${PIPELINE:=}" "${CONTROLNET:=}" "${ADAPTERS:=}" "${AUTH:=}" "${QUEUE:=20}"
: "${TOKEN:=}" "${OUT:=/outputs/demo}" "${MINUTES:=6}" "${DATA:=}"
case $APP_CONTEXT in lab) : "${PORT:=8888}" ;; *) : "${PORT:=7860}" ;; esac

if [ "${1:-}" = health ]; then
    case $APP_CONTEXT in
        train) exec grep -qas 'bin/[p]ixart' /proc/[0-9]*/cmdline ;;
        lab)   path=/api ;;
        *)     path=/ ;;
    esac
    exec python -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1], timeout=8)' "http://127.0.0.1:$PORT$path"
fi
[ $# -eq 0 ] || exec "$@"

case $APP_CONTEXT in
    t2i|control|lcm)
        set -- "$APP_CONTEXT" --host "$HOST" --port "$PORT" --queue "$QUEUE"
        [ -z "$PIPELINE" ]   || set -- "$@" --pipeline "$PIPELINE"
        [ -z "$CONTROLNET" ] || set -- "$@" --controlnet "$CONTROLNET"
        [ -z "$AUTH" ]       || set -- "$@" --auth "$AUTH"
        [ -z "$ADAPTERS" ]   || set -- "$@" --adapters $ADAPTERS
        exec pixart app "$@" ;;
    lab)
        exec jupyter lab --ip "$HOST" --port "$PORT" --no-browser --IdentityProvider.token="$TOKEN" --ServerApp.root_dir=/app/nbs ;;
    train)
        set -- --out "$OUT" --minutes "$MINUTES"
        [ -z "$DATA" ] || set -- "$@" --data "$DATA"
        exec pixart demo "$@" ;;
    *)
        echo "APP_CONTEXT: want one of t2i, control, lcm, lab, train, got '$APP_CONTEXT'" >&2
        exit 64 ;;
esac

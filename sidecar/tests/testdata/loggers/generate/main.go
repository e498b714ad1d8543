// The ten lines by zap, logrus and slog.
package main

import (
	"errors"
	"log/slog"
	"os"

	"github.com/sirupsen/logrus"
	"go.uber.org/zap"
)

const trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"

type fields map[string]any

func say(log func(level, message string, fields fields)) {
	log("debug", "cache warmed", fields{"entries": 42})
	log("info", "order accepted", fields{"order_id": "o-1", "amount": 12.5})
	log("info", "quote \" and \\ backslash", nil)
	log("info", "unicode žluťoučký 漢字", nil)
	log("info", "two\nlines", nil)
	log("warn", "queue is filling", fields{"depth": 900, "queue": map[string]string{"name": "mail"}})
	log("error", "payment failed", fields{"error": errors.New("card refused")})
	log("info", "within a trace", fields{"trace_id": trace, "span_id": span})
	log("info", "a foreign trace", fields{"trace_id": "12345"})
	log("error", "giving up", fields{"attempts": 3, "ok": false, "nothing": nil})
}

func main() {
	switch os.Args[1] {
	case "zap":
		config := zap.NewProductionConfig()
		config.Level = zap.NewAtomicLevelAt(zap.DebugLevel)
		config.OutputPaths = []string{"stdout"}
		log, _ := config.Build()
		say(func(level, message string, fields fields) {
			var all []zap.Field
			for key, value := range fields {
				all = append(all, zap.Any(key, value))
			}
			map[string]func(string, ...zap.Field){"debug": log.Debug, "info": log.Info, "warn": log.Warn, "error": log.Error}[level](message, all...)
		})
	case "logrus", "logrus-text":
		log := logrus.New()
		log.SetOutput(os.Stdout)
		log.SetLevel(logrus.DebugLevel)
		log.SetFormatter(&logrus.TextFormatter{DisableColors: true})
		if os.Args[1] == "logrus" {
			log.SetFormatter(&logrus.JSONFormatter{})
		}
		say(func(level, message string, fields fields) {
			parsed, _ := logrus.ParseLevel(level)
			log.WithFields(logrus.Fields(fields)).Log(parsed, message)
		})
	case "slog", "slog-text":
		options := &slog.HandlerOptions{Level: slog.LevelDebug}
		var handler slog.Handler = slog.NewJSONHandler(os.Stdout, options)
		if os.Args[1] == "slog-text" {
			handler = slog.NewTextHandler(os.Stdout, options)
		}
		log := slog.New(handler)
		say(func(level, message string, fields fields) {
			var all []any
			for key, value := range fields {
				all = append(all, key, value)
			}
			map[string]func(string, ...any){"debug": log.Debug, "info": log.Info, "warn": log.Warn, "error": log.Error}[level](message, all...)
		})
	}
}

"""The bridge from MQTT to Kafka: it reads headers and never payloads."""

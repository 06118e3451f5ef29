module ollama-client

go 1.22

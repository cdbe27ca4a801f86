"""Kafka's own jars and the Java that runs them: fetched by Maven once per machine, then found.

`python -m threadline.kafka_jars` fetches them ahead of time and prints where they are.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from threadline.caches import cached, is_cached
from threadline.children import StackError

VERSION = "4.1.1"
JAVA_MIN = 17
FETCH_S = 900.0
PROBE_S = 60.0
NAME = f"kafka-{VERSION}"

# The server asks for a logging library and brings none: the smallest writes to standard error.
POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
 <modelVersion>4.0.0</modelVersion>
 <groupId>threadline</groupId><artifactId>embedded-kafka</artifactId><version>1</version>
 <packaging>pom</packaging>
 <dependencies>
  <dependency>
   <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId>
   <version>{VERSION}</version>
  </dependency>
  <dependency>
   <groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version>
  </dependency>
 </dependencies>
</project>
"""
COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"


def missing() -> str | None:
    """What keeps Kafka from running here, or None."""
    if java() is None:
        return (
            f"Java {JAVA_MIN} or later is not installed (apt-get install openjdk-17-jre-headless)"
        )
    if not is_cached(NAME) and shutil.which("mvn") is None:
        return "Maven is not installed, and Kafka was not fetched before (apt-get install maven)"
    return None


def jars() -> Path:
    """The folder of the jars. StackError: they cannot be fetched."""
    return cached(NAME, _fetch)


def java() -> str | None:
    """The program, if it is new enough."""
    home = os.environ.get("JAVA_HOME")
    program = shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")
    if program is None:
        return None
    said = subprocess.run(
        [program, "-version"], check=False, capture_output=True, text=True, timeout=PROBE_S
    ).stderr
    found = re.search(r'version "(\d+)', said)
    return program if found and int(found[1]) >= JAVA_MIN else None


def _fetch(into: Path) -> None:
    mvn = shutil.which("mvn")
    if mvn is None:
        raise StackError("Kafka is fetched by Maven, which is not installed: apt-get install maven")
    (into / "pom.xml").write_text(POM)
    command = [mvn, "--batch-mode", "--quiet", "-Dmdep.useBaseVersion=true"]
    command += [f"-DoutputDirectory={into}", "-DincludeScope=runtime", COPY]
    done = subprocess.run(
        command, cwd=into, check=False, capture_output=True, text=True, timeout=FETCH_S
    )
    if done.returncode != 0:
        raise StackError(f"Maven could not fetch Kafka {VERSION}:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    sys.stdout.write(f"{jars()}\n")
